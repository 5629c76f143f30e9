//! `serve`: the proxy alone, with its admin API, until told to stop.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::activation::{self, Activated};
use super::args::ServeArgs;
use super::handover::{self, Post, Step, Taken};
use super::reload::{self, Reloads};
use super::run::quoted;
use super::{Failed, control, exit, inputs, signals, terminal};
use crate::admin::{Admin, Control};
use crate::dice::Dice;
use crate::engine::Arming;
use crate::experiment::{Ports, Setup, Stop, World};
use crate::net::handover::Inheritance;
use crate::units::Span;

/// How often leases are looked at.
const LEASE_TICK: Duration = Duration::from_millis(50);

pub(crate) fn run(args: &ServeArgs) -> Result<u8, Failed> {
    let file = inputs::shadowed(&args.file, args.again.shadow);
    let mut plan = inputs::load(&file)?;
    let replay = inputs::journal(args.again.replay.as_deref())?;
    if !args.admin.ip().is_loopback() && !args.allow_remote_admin {
        return Err(Failed::usage(format!(
            "the admin API at {} could be called by anyone who reaches it; use 127.0.0.1, or say --allow-remote-admin",
            args.admin
        )));
    }
    let lease = read_lease(&args.lease)?;
    let seed = args.seed.or(plan.seed).unwrap_or_else(Dice::fresh_seed);
    let journal = args.out.as_ref().map(|folder| folder.join(&plan.outputs.decisions));
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).map_err(|error| {
            Failed::run(format!("`{}` cannot be made: {error}", folder.display()))
        })?;
    }
    let taken = args.handover.as_deref().map(handover::take).transpose()?.flatten();
    // What another process serves already, is not waited for.
    let activated = if taken.is_some() { None } else { activation::take(&plan)? };
    if let Some(journal) = journal.as_deref().filter(|_| taken.is_some()) {
        keep_journal(journal)?;
    }
    terminal::runtime()?.block_on(async {
        // Before anybody is told that it serves, and could end it.
        let mut stop = signals::watch_but_hangup(
            "finishing: faults are off, connections are being ended (once more to stop now)",
        );
        let mut reloads = Reloads::of(&file, args.watch);
        let setup = Setup {
            seed,
            ports: if args.random_ports { Ports::Free } else { Ports::AsWritten },
            journal: journal.as_deref(),
            replay,
            mark: args.mark,
            socket_mark: args.socket_mark,
            inherited: match (&taken, &activated) {
                (Some(taken), _) => taken.sockets.clone(),
                (None, Some(activated)) => activated.sockets.clone(),
                (None, None) => Inheritance::default(),
            },
            ..Setup::default()
        };
        let mut world =
            World::start(&mut plan, setup).await.map_err(|error| Failed::run(error.to_string()))?;
        let control = world.control(lease, true);
        let _ = control.reload.set(reloads.wishes());
        let kept = taken.as_ref().map(|taken| taken.arm(&world, &control)).unwrap_or_default();
        for fault in &args.arm {
            let from = world.clock.now();
            let arming = Arming { percent: None, from, until: lease.map(|lease| from + lease) };
            world.engine.arm(fault, arming).map_err(Failed::usage)?;
        }
        let (admin, mut post) = open(args, taken, activated, &control).await?;
        if !kept.is_empty() {
            terminal::note(&kept.join("; "));
        }
        announce(&world, &admin, args, seed)?;
        let handed_over = loop {
            tokio::select! {
                () = Stop::Soon.wished(&mut stop) => break false,
                wish = reloads.next() => {
                    reload::carry_out(wish, &mut world, &control, &file).await;
                }
                step = handover::step(post.as_mut()) => match step {
                    Step::Asked(next) => {
                        handover::give(next, post.as_mut(), &world, &admin, &control);
                    }
                    Step::Served => break true,
                },
                () = keep_safe(&world, &control) => {}
            }
        };
        if handed_over {
            terminal::note("another process serves from here on; what is under way here ends");
            drop(admin);
            world.step_aside().await;
        }
        world.close_within(args.drain_timeout.0, &mut stop).await;
        Ok(exit::PASS)
    })
}

/// The admin API and the place where the next one asks, taken over from the one before if there is
/// one; from then on that one takes no more connections.
async fn open(
    args: &ServeArgs,
    mut taken: Option<Taken>,
    mut activated: Option<Activated>,
    control: &Arc<Control>,
) -> Result<(Admin, Option<Post>), Failed> {
    let socket = match (&mut taken, &mut activated) {
        (Some(taken), _) => taken.admin_at(args.admin),
        (None, Some(activated)) => activated.admin_at(args.admin),
        (None, None) => None,
    };
    let here = socket.is_some();
    let admin = match socket {
        Some(socket) => tokio::net::TcpListener::from_std(socket)
            .and_then(|socket| Admin::over(socket, Arc::clone(control))),
        None => Admin::start(args.admin, Arc::clone(control)).await,
    };
    let admin = admin.map_err(|error| {
        Failed::run(format!("the admin API cannot listen at {}: {error}", args.admin))
    })?;
    for address in activated.map(Activated::unwanted).unwrap_or_default() {
        if !(here && address == admin.address) {
            terminal::note(&format!("systemd listens on {address}, and nothing in the file does"));
        }
    }
    let post = args.handover.as_deref().map(Post::open).transpose()?;
    if let Some(taken) = taken {
        taken.served();
    }
    Ok((admin, post))
}

/// The decisions of the one before, who may still write some: under another name.
fn keep_journal(journal: &Path) -> Result<(), Failed> {
    let free = (1..).map(|number| journal.with_extension(format!("{number}.jsonl")));
    let Some(free) = free.into_iter().find(|name| !name.exists()) else { return Ok(()) };
    match std::fs::rename(journal, &free) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failed::run(format!(
            "`{}` cannot be kept as `{}`: {error}",
            journal.display(),
            free.display()
        ))),
        _ => Ok(()),
    }
}

/// Ends leases, and everything when whoever armed it has gone.
pub(super) async fn keep_safe(world: &World, control: &Control) {
    let mut tick = tokio::time::interval(LEASE_TICK);
    loop {
        tick.tick().await;
        world.engine.expire(world.clock.now());
        if control.watch_heartbeat() {
            terminal::note(
                "no word from whoever armed the faults (safety.heartbeat): everything is disarmed",
            );
        }
    }
}

pub(super) fn read_lease(text: &str) -> Result<Option<Duration>, Failed> {
    match text {
        "forever" => Ok(None),
        text => text
            .parse::<Span>()
            .map(|span| Some(span.0))
            .map_err(|error| Failed::usage(format!("--for: {error}, or `forever`"))),
    }
}

fn announce(world: &World, admin: &Admin, args: &ServeArgs, seed: u64) -> Result<(), Failed> {
    if args.print.is_some() {
        let dependencies: serde_json::Map<String, serde_json::Value> = world
            .endpoints
            .iter()
            .map(|end| {
                (
                    end.name.to_string(),
                    json!({ "listen": end.url, "kind": end.kind, "upstream": end.upstream }),
                )
            })
            .collect();
        let gateways: serde_json::Map<String, serde_json::Value> =
            world.gateways.iter().map(|(name, url)| (name.clone(), url.clone().into())).collect();
        let env: serde_json::Map<String, serde_json::Value> =
            world.variables().into_iter().map(|(name, value)| (name, value.into())).collect();
        let line = json!({
            "admin": format!("http://{}", admin.address),
            "dependencies": dependencies,
            "gateways": gateways,
            "env": env,
            "seed": seed,
        });
        return terminal::out(&format!("{line}\n"));
    }
    let mut text = String::new();
    for end in &world.endpoints {
        text.push_str(&format!(
            "  {:<14} {}  ->  {}\n",
            end.name,
            end.url.as_deref().unwrap_or("through a gateway"),
            end.upstream
        ));
    }
    for (name, url) in &world.gateways {
        text.push_str(&format!("  {:<14} {url}\n", format!("{name} gateway")));
    }
    text.push_str(&format!("  {:<14} http://{}   seed {seed}\n\n", "admin", admin.address));
    for (name, value) in world.variables() {
        text.push_str(&format!("export {name}={}\n", quoted(&value)));
    }
    let armed = world.engine.armed();
    if armed.is_empty() {
        text.push_str("\nnothing is armed; arm a fault with: brownout arm NAME --for 5m\n");
    } else {
        let names: Vec<&str> = armed.iter().map(|(name, _)| &**name).collect();
        text.push_str(&format!(
            "\narmed: {} · everything off: {}\n",
            names.join(", "),
            control::stop_command(admin.address)
        ));
    }
    terminal::out(&text)
}
