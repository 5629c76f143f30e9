//! `demo`: the whole thing on simulated dependencies, with an app that has a real bug.

use std::time::Duration;

use super::args::{DemoArgs, FileArgs};
use super::run::{Conduct, conduct, exit_code};
use super::{Failed, exit, inputs, terminal};
use crate::experiment::{App, Ports};

/// The demo's experiment, as users could write it.
const FILE: &str = include_str!("../../examples/demo.yaml");

pub(crate) fn run(args: &DemoArgs) -> Result<u8, Failed> {
    if args.print {
        terminal::out(FILE)?;
        return Ok(exit::PASS);
    }
    let file = FileArgs { file: None, config: None, profile: None, sets: Vec::new() };
    let plan = inputs::load_text("demo.yaml", FILE, &file)?;
    let fixed = if args.fixed { " --fixed" } else { "" };
    terminal::note(&format!(
        "brownout {} · demo{} · seed {} · everything on 127.0.0.1, no key needed\n",
        env!("CARGO_PKG_VERSION"),
        if args.fixed { " of the fixed app" } else { "" },
        args.seed
    ));
    let setup = Conduct {
        seed: args.seed,
        ports: Ports::Free,
        app: App::Demo { fixed: args.fixed },
        wait_for: None,
        wait_timeout: Duration::from_secs(10),
        admin: None,
        allow_public: false,
        replay: None,
        reproduce: format!("brownout demo{fixed} --seed {}", args.seed),
    };
    let finished = conduct(plan, setup, &args.out)?;
    if !args.out.json {
        let next = if args.fixed {
            "yours      brownout init && brownout check   (then: brownout run --exec \"your app\")\n"
        } else {
            "fixed      brownout demo --fixed   (the same app with its bugs mended: watch it pass)\n"
        };
        terminal::out(next)?;
    }
    let code = exit_code(&finished);
    // A demo that showed what it promised has done its job; one that could not run has not.
    let showed = matches!(code, exit::PASS | exit::FAIL);
    Ok(if showed && !args.strict { exit::PASS } else { code })
}
