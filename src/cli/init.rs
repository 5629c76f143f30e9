//! `init`: writes a first experiment file, from what the folder and the environment tell.

use std::path::Path;

use super::args::InitArgs;
use super::{Failed, exit, terminal};

pub(crate) fn run(args: &InitArgs) -> Result<u8, Failed> {
    if args.file.exists() && !args.force {
        return Err(Failed::usage(format!(
            "`{}` is there already; --force overwrites it",
            args.file.display()
        )));
    }
    let found = Found::look(Path::new("."));
    let text = found.file();
    std::fs::write(&args.file, text).map_err(|error| {
        Failed::run(format!("`{}` cannot be written: {error}", args.file.display()))
    })?;
    let what = if found.reasons.is_empty() {
        "nothing that names a dependency, so it simulates a model".to_owned()
    } else {
        found.reasons.join(", ")
    };
    terminal::out(&format!(
        "wrote {}  · found {what}\nnext: brownout check\n",
        args.file.display()
    ))?;
    Ok(exit::PASS)
}

/// What can be told about the app without asking.
#[derive(Debug, Default)]
struct Found {
    openai: bool,
    azure: Option<String>,
    qdrant: Option<String>,
    app: Option<String>,
    /// In the user's words, for the closing line.
    reasons: Vec<String>,
}

impl Found {
    fn look(folder: &Path) -> Self {
        let mut texts = String::new();
        for name in [
            ".env",
            ".env.example",
            "docker-compose.yaml",
            "docker-compose.yml",
            "compose.yaml",
            "compose.yml",
        ] {
            if let Ok(text) = std::fs::read_to_string(folder.join(name)) {
                texts.push_str(&text);
                texts.push('\n');
            }
        }
        Self::from(&texts, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from(texts: &str, env: impl Fn(&str) -> Option<String>) -> Self {
        let mut found = Self::default();
        let mut has = |name: &str| {
            let there = env(name).is_some() || texts.contains(name);
            if there {
                found.reasons.push(name.to_owned());
            }
            there
        };
        let openai = has("OPENAI_API_KEY");
        let azure = has("AZURE_OPENAI_ENDPOINT");
        let qdrant = has("QDRANT_URL");
        let is_plain =
            |url: &String| url.starts_with("http") && !url.contains(['$', '"', '\'', '@']);
        found.openai = openai;
        found.azure = azure.then(|| {
            env("AZURE_OPENAI_ENDPOINT")
                .filter(is_plain)
                .unwrap_or_else(|| "https://example.openai.azure.com".into())
        });
        found.qdrant = qdrant.then(|| {
            env("QDRANT_URL").filter(is_plain).unwrap_or_else(|| "http://localhost:6333".into())
        });
        found.app = env("APP_URL").filter(is_plain);
        found
    }

    fn file(&self) -> String {
        let app = self.app.as_deref().unwrap_or("http://localhost:8000/chat");
        let mut dependencies = String::new();
        if self.openai {
            dependencies.push_str(
                "  llm: { kind: openai, listen: 4001, upstream: https://api.openai.com }\n",
            );
        }
        if let Some(url) = &self.azure {
            let name = if self.openai { "azure" } else { "llm" };
            dependencies.push_str(&format!(
                "  {name}: {{ kind: azure-openai, listen: 4002, upstream: \"{url}\" }}\n"
            ));
        }
        if dependencies.is_empty() {
            dependencies.push_str(
                "  # The embedded simulator: no key, no cost. Your provider instead: upstream: https://api.openai.com\n  \
                 llm: { kind: openai, listen: 4001, simulate: { model: small } }\n",
            );
        }
        if let Some(url) = &self.qdrant {
            dependencies.push_str(&format!(
                "  vectors: {{ kind: qdrant, listen: 4003, upstream: \"{url}\" }}\n"
            ));
        }
        format!(
            "# yaml-language-server: $schema=./brownout.schema.json
# The schema for your editor: brownout schema > brownout.schema.json
version: 1
name: first-experiment
seed: 42                         # same seed, same faults

# What your app calls. Point it here instead, for example
#   OPENAI_BASE_URL=http://127.0.0.1:4001/v1
# or let `brownout run --exec \"your command\"` set it.
dependencies:
{dependencies}
# What goes wrong. `brownout faults` lists what there is.
faults:
  storm:
    target: llm
    rate_limit: {{ requests_per_minute: 30, retry_after: 5s }}

# Traffic for your app, not for the dependencies.
workload:
  app: {app}
  request: {{ body: {{ message: \"${{prompt.text}}\" }} }}
  arrival_rate: 2/s
  timeout: 30s

phases:
  - {{ name: baseline, duration: 30s }}
  - {{ name: storm, duration: 45s, faults: [storm] }}
  - {{ name: recovery, duration: 45s, until: recovered }}

# What must hold.
expect:
  - success_rate >= 99% during baseline
  - success_rate >= 95% during storm
  - retry_amplification(llm) < 1.5 during storm
  - time_to_recover < 30s after storm

safety:
  max_duration: 10m
"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_writes_loads() {
        let env = |name: &str| match name {
            "OPENAI_API_KEY" => Some("sk-planted-key".to_owned()),
            "QDRANT_URL" => Some("http://localhost:6333".to_owned()),
            _ => None,
        };
        for found in [Found::default(), Found::from("", env)] {
            let text = found.file();
            assert!(!text.contains("planted"), "a key must not be written");
            let loaded =
                crate::config::load("brownout.yaml", &text, &crate::config::Options::default());
            loaded.unwrap_or_else(|diagnostics| panic!("{diagnostics}\n{text}"));
        }
    }
}
