//! A run from its first listener to its last file.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::app::{App, Running};
use super::conduct::Conductor;
use super::progress::{Event, Progress};
use super::{Error, Ports, Setup, Stop, Target, World, Written, outputs, record};
use crate::admin::Admin;
use crate::config::plan::Plan;
use crate::engine::Replay;
use crate::measure::{Good, Ledger, Record};
use crate::workload;

/// What a run is made with besides its plan.
#[derive(Debug)]
pub struct Options {
    pub seed: u64,
    pub ports: Ports,
    /// What to do about the app: start it, or find it running.
    pub app: App,
    /// Waited for before the load starts.
    pub wait_for: Option<Target>,
    pub wait_timeout: Duration,
    /// Where the admin API listens during the run.
    pub admin: Option<SocketAddr>,
    /// Whether the driver may load an app outside loopback and private networks.
    pub allow_public: bool,
    /// The decisions of an earlier run that are to be met again, and their journal's name.
    pub replay: Option<(String, Replay)>,
    /// The command that runs this again.
    pub reproduce: String,
    /// What the person at the keyboard wishes.
    pub stop: watch::Receiver<Stop>,
    /// Where it is told how far the run is.
    pub progress: Progress,
}

/// A run that is over.
#[derive(Debug)]
pub struct Finished {
    /// Everything that it left behind.
    pub record: Record,
    /// Where the results went.
    pub written: Written,
    /// Why not all of it could be written.
    pub unwritten: Option<Error>,
}

/// Conducts a run and writes its results.
pub async fn run(mut plan: Plan, mut options: Options) -> Result<Finished, Error> {
    let Some(mut workload) = plan.workload.take() else {
        return Err(Error::Plan(
            "the file has no `workload`, so there is nothing to run; `brownout serve` runs the proxy alone".to_owned(),
        ));
    };
    outputs::prepare(&plan.outputs)?;
    let paths = Written::paths(&plan.outputs);
    let good = Good { ttft: workload.good_ttft, latency: workload.good_latency };
    let setup = Setup {
        seed: options.seed,
        ports: options.ports,
        ledger: Some(Ledger::new(good)),
        journal: Some(&paths.decisions),
        replay: options.replay.take(),
        ..Setup::default()
    };
    let world = World::start(&mut plan, setup).await?;
    let admin = start_admin(&plan, &options, &world).await?;
    options.progress.tell(Event::Listening {
        endpoints: world.endpoints.clone(),
        gateways: world.gateways.clone(),
        admin: admin.as_ref().map(|admin| admin.address),
        seed: options.seed,
    });

    let mut app = Running::start(&options.app, &world).await?;
    if let Some(url) = app.url() {
        workload.app = url;
    }
    check_target(&workload, options.allow_public).await?;
    if let Err(error) = wait_for_app(&mut options, &mut app).await {
        app.stop(&mut options.stop).await;
        world.close(&mut options.stop).await;
        return Err(error);
    }

    let started = std::time::SystemTime::now();
    let mut conductor = Conductor::start(&plan, &workload, &world, &options)?;
    let end = conductor.conduct(&mut app, &mut options.stop).await;
    let driver = conductor.finish(&end, &mut options.stop).await;
    let endpoints = world.endpoints.clone();
    let engine = Arc::clone(&world.engine);
    let dropped = world.recorder.clone();
    let book = world.close(&mut options.stop).await;
    app.stop(&mut options.stop).await;
    drop(admin);

    let record = record::build(&record::Parts {
        plan: &plan,
        options: &options,
        endpoints: &endpoints,
        engine: &engine,
        book: &book,
        dropped: dropped.dropped(),
        ending: end,
        driver,
        started,
    });
    let unwritten =
        outputs::write(&record, &plan.outputs).err().or(book.broken().map(Error::Journal));
    Ok(Finished { record, written: paths, unwritten })
}

async fn start_admin(
    plan: &Plan,
    options: &Options,
    world: &World,
) -> Result<Option<Admin>, Error> {
    let Some(address) = options.admin.or(plan.outputs.prometheus) else {
        return Ok(None);
    };
    let failed =
        |error| Error::Listen(format!("the admin API cannot listen at {address}: {error}"));
    // Without a password nobody else may bend a run: beyond loopback it can only be looked at.
    let control = world.control(None, address.ip().is_loopback());
    Admin::start(address, control).await.map(Some).map_err(failed)
}

/// The load must not hit a stranger: outside loopback and private networks it needs a word.
async fn check_target(workload: &workload::Plan, allow_public: bool) -> Result<(), Error> {
    if allow_public {
        return Ok(());
    }
    let host = workload.app.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = workload.app.port_or_known_default().unwrap_or(80);
    let Ok(addresses) = tokio::net::lookup_host((host.as_str(), port)).await else {
        // A name that does not resolve yet (a container still starting) is judged when it does.
        return Ok(());
    };
    for address in addresses {
        if !is_near(address.ip()) {
            let ip = address.ip().to_string();
            let app = if ip == host { ip } else { format!("{host} ({ip})") };
            return Err(Error::Plan(format!(
                "the app at {app} is outside loopback and private networks; say --allow-public if the load is meant for it"
            )));
        }
    }
    Ok(())
}

fn is_near(ip: std::net::IpAddr) -> bool {
    match ip {
        std::net::IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        std::net::IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
    }
}

async fn wait_for_app(options: &mut Options, app: &mut Running) -> Result<(), Error> {
    let Some(target) = options.wait_for.clone() else {
        return Ok(());
    };
    options.progress.tell(Event::Waiting { target: format!("{target}") });
    let limit = options.wait_timeout;
    tokio::select! {
        answer = target.wait(limit) => answer.map_err(|last| {
            Error::App(format!("{target} did not answer within {}: {last}", crate::units::Span(limit)))
        }),
        how = app.ended() => Err(Error::App(format!("{how} before {target} answered"))),
        () = Stop::Soon.wished(&mut options.stop) => {
            Err(Error::Interrupted(format!("interrupted while waiting for {target}; nothing was run")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_addresses_are_loaded_without_a_word() {
        for near in ["127.0.0.1", "10.1.2.3", "172.20.0.5", "192.168.1.1", "::1", "fd00::1"] {
            assert!(is_near(near.parse().unwrap()), "{near}");
        }
        for far in ["8.8.8.8", "1.1.1.1", "2606:4700::1111"] {
            assert!(!is_near(far.parse().unwrap()), "{far}");
        }
    }
}
