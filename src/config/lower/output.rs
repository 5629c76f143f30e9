//! `outputs`: what is written where.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use super::{Lowering, way};
use crate::config::diagnostic::Mistake;
use crate::config::plan::Outputs;
use crate::config::schema;

/// Where everything is written when the file does not say.
pub(super) const DIR: &str = "brownout-report";

impl Lowering<'_> {
    pub(super) fn outputs(&mut self, outputs: Option<schema::Outputs>) -> Outputs {
        let outputs = outputs.unwrap_or_default();
        for (key, given) in [
            ("github", outputs.github.is_some()),
            ("otlp", outputs.otlp.is_some()),
            ("capture", outputs.capture.is_some()),
        ] {
            if given {
                let place = self.key_place(way!["outputs", key]);
                let text = format!("`outputs.{key}` is not built yet");
                self.found.warn(Mistake::at(place, text).label("ignored"));
            }
        }
        Outputs {
            dir: PathBuf::from(outputs.dir.unwrap_or_else(|| DIR.to_owned())),
            html: self.file_name("html", outputs.html, "report.html"),
            json: self.file_name("json", outputs.json, "results.json"),
            junit: self.file_name("junit", outputs.junit, "junit.xml"),
            decisions: self.file_name("decisions", outputs.decisions, "decisions.jsonl"),
            prometheus: outputs.prometheus.and_then(|text| self.prometheus(&text)),
        }
    }

    /// A file inside `dir`: a report must not land elsewhere by surprise.
    fn file_name(&mut self, key: &'static str, given: Option<String>, default: &str) -> String {
        let Some(name) = given else { return default.to_owned() };
        let inside = Path::new(&name).components().all(|part| matches!(part, Component::Normal(_)));
        if name.trim().is_empty() || !inside {
            let path = way!["outputs", key];
            let text =
                format!("{} is no name of a file in `outputs.dir`", self.quoted(path, &name));
            let mistake = Mistake::at(self.place(path), text);
            self.found.error(mistake.label(format!("write for example {default}")));
        }
        name
    }

    fn prometheus(&mut self, text: &str) -> Option<SocketAddr> {
        let spelled = match text.parse::<u16>() {
            Ok(port) => format!("127.0.0.1:{port}"),
            Err(_) => text.replace("localhost:", "127.0.0.1:"),
        };
        let address = spelled.parse().ok();
        if address.is_none() {
            let path = way!["outputs", "prometheus"];
            let shown = self.quoted(path, text);
            let mistake = Mistake::at(self.place(path), format!("{shown} is no address"));
            self.found.error(mistake.label("write for example 127.0.0.1:9464"));
        }
        address
    }
}
