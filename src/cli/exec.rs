//! `exec`: a program with the proxy in front of its dependencies. It gets every variable and every
//! signal; its exit code is ours; and nothing that it started outlives us.

use std::net::SocketAddr;

use super::args::{ExecArgs, USUAL_ADMIN};
use super::offspring::{Ended, Offspring, Signals};
use super::{Failed, control, env, inputs, serve, terminal};
use crate::admin::{Admin, Control};
use crate::dice::Dice;
use crate::engine::Arming;
use crate::experiment::{Ports, Setup, Stop, Variable, World, own_environment};

pub(crate) fn run(args: &ExecArgs) -> Result<u8, Failed> {
    if let Some(admin) = args.attach {
        let variables = env::of_running(admin, None, &own_environment())?;
        return terminal::runtime()?.block_on(attached(args, &variables));
    }
    if args.admin.is_some_and(|admin| !admin.ip().is_loopback()) {
        return Err(Failed::usage(
            "the admin API has no password, so `exec` serves it on loopback alone: --admin 127.0.0.1:8474",
        ));
    }
    terminal::runtime()?.block_on(with_proxy(args))
}

/// Beside a proxy that runs already.
async fn attached(args: &ExecArgs, variables: &[Variable]) -> Result<u8, Failed> {
    let mut signals = Signals::listen()?;
    let mut program = Offspring::start(&args.command, variables)?;
    let ended = program.run(&mut signals).await;
    program.end().await;
    Ok(ended?.code())
}

async fn with_proxy(args: &ExecArgs) -> Result<u8, Failed> {
    let mut plan = inputs::load(&args.file)?;
    let lease = serve::read_lease(&args.lease)?;
    let seed = args.seed.or(plan.seed).unwrap_or_else(Dice::fresh_seed);
    let journal = args.out.as_ref().map(|folder| folder.join(&plan.outputs.decisions));
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).map_err(|error| {
            Failed::run(format!("`{}` cannot be made: {error}", folder.display()))
        })?;
    }
    let mut signals = Signals::listen()?;
    let setup = Setup {
        seed,
        ports: if args.random_ports { Ports::Free } else { Ports::AsWritten },
        journal: journal.as_deref(),
        ..Setup::default()
    };
    let world =
        World::start(&mut plan, setup).await.map_err(|error| Failed::run(error.to_string()))?;
    for fault in &args.arm {
        let from = world.clock.now();
        let arming = Arming { percent: None, from, until: lease.map(|lease| from + lease) };
        world.engine.arm(fault, arming).map_err(Failed::usage)?;
    }
    let control = world.control(lease, true);
    let admin = start_admin(args.admin, &control).await?;
    announce(&world, admin.address);
    let mut program = Offspring::start(&args.command, &world.variables_for_child())?;
    let ended = tokio::select! {
        ended = program.run(&mut signals) => ended,
        () = serve::keep_safe(&world, &control) => unreachable!("it never ends"),
    };
    program.end().await;
    world.close(&mut tokio::sync::watch::channel(Stop::No).1).await;
    ended.map(Ended::code)
}

/// The usual place may be taken by another `exec`: then any other will do.
async fn start_admin(
    wanted: Option<SocketAddr>,
    control: &std::sync::Arc<Control>,
) -> Result<Admin, Failed> {
    let usual: SocketAddr = USUAL_ADMIN.parse().expect("it is a constant");
    let first = wanted.unwrap_or(usual);
    let started = match Admin::start(first, std::sync::Arc::clone(control)).await {
        Err(error) if wanted.is_none() && error.kind() == std::io::ErrorKind::AddrInUse => {
            let free = SocketAddr::new(usual.ip(), 0);
            Admin::start(free, std::sync::Arc::clone(control)).await
        }
        started => started,
    };
    started.map_err(|error| Failed::run(format!("the admin API cannot listen at {first}: {error}")))
}

/// On stderr: stdout is the program's.
fn announce(world: &World, admin: SocketAddr) {
    for end in &world.endpoints {
        terminal::note(&format!(
            "  {:<14} {}  ->  {}",
            end.name,
            end.url.as_deref().unwrap_or("through a gateway"),
            end.upstream
        ));
    }
    for (name, url) in &world.gateways {
        terminal::note(&format!("  {name:<14} {url}  (gateway)"));
    }
    let armed = world.engine.armed();
    let names: Vec<&str> = armed.iter().map(|(name, _)| &**name).collect();
    let armed = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    terminal::note(&format!(
        "  {:<14} http://{admin}   armed: {armed} · everything off: {}",
        "admin",
        control::stop_command(admin)
    ));
}
