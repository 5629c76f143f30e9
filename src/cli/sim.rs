//! `sim`: a simulated dependency alone.

use std::sync::Arc;

use super::args::SimArgs;
use super::{Failed, exit, signals, terminal};
use crate::experiment::Stop;
use crate::net::RealClock;
use crate::sim::{Kind, Settings, Sim};

pub(crate) fn run(args: &SimArgs) -> Result<u8, Failed> {
    let kind = if args.kind == "qdrant" { Kind::Qdrant } else { Kind::OpenAi };
    let Some(mut settings) = Settings::preset(kind, &args.model) else {
        return Err(Failed::usage(format!(
            "there is no model `{}`; there are {}",
            args.model,
            crate::sim::MODELS.join(", ")
        )));
    };
    settings.seed = args.seed;
    settings.documents = args.documents;
    terminal::runtime()?.block_on(async {
        let mut stop = signals::watch("finishing");
        let sim = Sim::start(args.listen, settings, Arc::new(RealClock::new()))
            .await
            .map_err(|error| Failed::run(format!("{} cannot be listened on: {error}", args.listen)))?;
        let url = format!("http://{}", sim.address());
        match (args.print, kind) {
            (Some(_), _) => terminal::out(&format!("{}\n", serde_json::json!({ "listen": url, "kind": args.kind })))?,
            (None, Kind::OpenAi) => terminal::out(&format!(
                "a simulated OpenAI listens at {url}\n  export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY=none\n"
            ))?,
            (None, Kind::Qdrant) => {
                terminal::out(&format!("a simulated Qdrant listens at {url}\n  export QDRANT_URL={url}\n"))?;
            }
        }
        Stop::Soon.wished(&mut stop).await;
        Ok(exit::PASS)
    })
}
