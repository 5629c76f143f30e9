//! Loading experiment files: what they mean, overlays, variables, the schema, and hostile text.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use brownout::config::plan::{Plan, Upstream};
use brownout::config::{Diagnostics, Loaded, Options, explain, load, load_file, schema_json};
use brownout::units::Ramp;
use brownout::verdict::Window;
use proptest::prelude::*;

const FULL: &str = include_str!("../../examples/full.yaml");
const SHORT: &str = include_str!("../../examples/short.yaml");

fn loaded(text: &str, options: &Options<'_>) -> Loaded {
    load("brownout.yaml", text, options).unwrap_or_else(|found| panic!("{found}"))
}

fn plan(text: &str) -> Plan {
    loaded(text, &Options::default()).plan
}

fn refused(text: &str, options: &Options<'_>) -> Diagnostics {
    match load("brownout.yaml", text, options) {
        Ok(_) => panic!("should have been refused:\n{text}"),
        Err(found) => found,
    }
}

/// All experiment files below `examples/`.
fn examples() -> Vec<PathBuf> {
    let mut found = Vec::new();
    yaml_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"), &mut found);
    found.retain(|file| std::fs::read_to_string(file).unwrap().contains("\ndependencies:"));
    found.sort();
    found
}

fn yaml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|end| end == "yaml") {
            found.push(path);
        }
    }
}

#[test]
fn all_examples_load_without_a_word() {
    let files = examples();
    assert!(files.len() >= 7);
    for file in files {
        match load_file(&file, &Options::default()) {
            Ok(loaded) => {
                assert!(loaded.warnings.list.is_empty(), "{}:\n{}", file.display(), loaded.warnings)
            }
            Err(found) => panic!("{found}"),
        }
    }
}

#[test]
fn ten_lines_imply_three_phases() {
    let plan = plan(SHORT);
    let phases: Vec<_> =
        plan.phases.iter().map(|phase| (phase.name.as_str(), phase.duration.as_secs())).collect();
    assert_eq!(phases, [("baseline", 60), ("fault", 60), ("recovery", 60)]);
    assert!(plan.phases[0].faults.is_empty() && plan.phases[2].faults.is_empty());
    assert_eq!(plan.phases[1].faults, [("squeeze".to_owned(), None)]);
    assert_eq!(plan.expectations[0].window, Window::During("fault".into()));
    assert_eq!(plan.expectations[0].line, 10);
    assert_eq!(plan.name, "brownout");
    let workload = plan.workload.unwrap();
    assert_eq!(workload.timeout, Duration::from_secs(60));
    let body = workload.request.body.unwrap().to_string();
    assert!(body.contains("${prompt.text}"), "{body}");
}

#[test]
fn the_full_file_means_what_it_says() {
    let plan = plan(FULL);
    assert_eq!(plan.seed, Some(42));
    let names: Vec<&str> = plan.rules.iter().map(|rule| &*rule.name).collect();
    assert_eq!(names, ["thinking-slowly", "overloaded", "late-search"]);
    let search = &plan.rules[2];
    let effects: Vec<&str> = search.effects.iter().map(|(name, _)| *name).collect();
    assert_eq!(effects, ["latency"]);
    assert_eq!(plan.effect_text("late-search", "latency"), "{ multiply: 10, percentile: 99 }");
    assert_eq!(search.selector.parts()[0].to_string(), "the operation is search");
    assert_eq!(plan.phases[2].faults[0].1, Some(Ramp { from: 5.0, to: 40.0 }));
    assert!(plan.phases[3].until_recovered);
    assert_eq!(plan.recovered.metrics, ["success_rate", "p95(ttft)"]);
    assert_eq!(plan.recovered.within, 0.1);
    assert!(plan.expectations[7].warn && plan.expectations[7].min_samples == 50);
    assert_eq!(plan.safety.probes[0].url.as_str(), "http://localhost:8000/healthz");
    assert_eq!(plan.safety.max_affected, Some(0.6));
    let text = explain::explain(&plan);
    for part in ["3 dependencies, 3 faults, 4 phases, 8 expectations, 6m30s", "5 -> 40 %", "2:30"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn each_profile_of_the_catalogue_is_a_fault() {
    for profile in brownout::config::profile::PROFILES {
        let it = match profile.name.split_once('/').unwrap() {
            ("vector_db", "redis_loading") => "kind: redis, upstream: localhost:6379",
            (
                "vector_db",
                "fewer_rows" | "read_only_replica" | "statement_timeouts" | "too_many_clients",
            ) => "kind: postgres, upstream: localhost:5432",
            ("vector_db", _) => "kind: qdrant, simulate: true",
            ("network", "certificate_expired" | "tls_handshake_stall") => {
                "kind: openai, simulate: true, tls: minted"
            }
            _ => "kind: openai, simulate: true",
        };
        let text = format!(
            "version: 1\ndependencies: {{ it: {{ {it}, listen: 0 }} }}\n\
             identify: {{ user: header x-user-id, session: header x-session-id }}\n\
             faults: {{ one: {{ target: it, use: {} }} }}\n",
            profile.name
        );
        let loaded = loaded(&text, &Options::default());
        assert!(loaded.warnings.list.is_empty(), "{}:\n{}", profile.name, loaded.warnings);
        assert!(!loaded.plan.rules[0].effects.is_empty(), "{}", profile.name);
    }
}

#[test]
fn dependencies_and_faults_alone_are_a_sidecar() {
    let plan = plan(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 0, upstream: \
         http://localhost:11434/base }\nfaults: { slow: { target: llm, latency: { add: 1s } } }\n",
    );
    assert!(plan.workload.is_none() && plan.phases.is_empty());
    assert_eq!(plan.dependencies[0].listen.unwrap().to_string(), "127.0.0.1:0");
}

#[test]
fn anchors_and_merge_keys_work() {
    let plan = plan(
        "version: 1\nx-base: &base { kind: openai, simulate: true }\ndependencies:\n  a: { <<: *base, \
         listen: 4001 }\n  b: { <<: *base, listen: 4002, kind: qdrant }\n",
    );
    assert_eq!(
        (plan.dependencies[0].kind.as_str(), plan.dependencies[1].kind.as_str()),
        ("openai", "qdrant")
    );
}

#[test]
fn profiles_and_settings_lie_over_the_file() {
    let sets = [
        "phases.storm.duration=7s".to_owned(),
        "faults.overloaded.percent=50".to_owned(),
        "seed=7".to_owned(),
        "phases.2.faults=[late-search, overloaded]".to_owned(),
    ];
    let plan =
        loaded(FULL, &Options { profile: Some("ci"), sets: &sets, ..Options::default() }).plan;
    assert_eq!(plan.seed, Some(7));
    assert_eq!(plan.rules[1].percent, Ramp { from: 50.0, to: 50.0 });
    let seconds: Vec<u64> = plan.phases.iter().map(|phase| phase.duration.as_secs()).collect();
    assert_eq!(seconds, [60, 20, 7, 120]);
    assert!(matches!(plan.dependencies[0].upstream, Upstream::Simulate(_)));
}

#[test]
fn a_wrong_setting_is_its_own_place() {
    for (set, words) in [
        ("faults.overloaded.percent=often", "`often` is no percent"),
        ("phases.strom.duration=5s", "did you mean `storm`?"),
        ("seed", "lacks a value"),
        ("name.first=a", "cannot be set inside"),
        ("fauls.a=1", "unknown key `fauls`"),
        ("seed=[", "YAML"),
    ] {
        let sets = [set.to_owned()];
        let found = refused(FULL, &Options { sets: &sets, ..Options::default() });
        let one = found.errors().next().unwrap();
        let spot = one.spot.as_ref().unwrap();
        assert_eq!((spot.line, spot.source.as_str()), (0, format!("--set {set}").as_str()));
        assert!(one.to_string().contains(words), "{found}");
    }
    let found = refused(FULL, &Options { profile: Some("cii"), ..Options::default() });
    assert!(found.to_string().contains("did you mean `ci`?"), "{found}");
}

#[test]
fn variables_come_from_vars_then_the_environment_then_the_default() {
    let text = "version: 1
vars: { HOST: a.example, PORT: \"${PORT:-4001}\" }
dependencies:
  llm:
    kind: openai
    listen: ${PORT}
    upstream: https://${HOST}/${BASE:-${KIND}}
";
    let environment = |name: &str| match name {
        "HOST" => Some("not-used.example".to_owned()),
        "PORT" => Some("5005".to_owned()),
        "KIND" => Some("v2".to_owned()),
        _ => None,
    };
    let plan = loaded(text, &Options { environment: &environment, ..Options::default() }).plan;
    assert_eq!(plan.dependencies[0].listen.unwrap().port(), 5005);
    let Upstream::Url(url) = &plan.dependencies[0].upstream else { panic!() };
    assert_eq!(url.as_str(), "https://a.example/v2");
    let again = "version: 1\nvars: { A: \"$${B}\" }\nname: $${HOME} ${A}\ndependencies: { llm: { kind: \
                 openai, listen: 1, simulate: true } }\n";
    assert_eq!(self::plan(again).name, "${HOME} ${B}");
}

#[test]
fn the_environment_is_never_shown() {
    const SECRET: &str = "sk-planted secret/1";
    let environment = |name: &str| name.starts_with("KEY").then(|| SECRET.to_owned());
    let options = Options { environment: &environment, ..Options::default() };
    let places = [
        "dependencies.llm.kind",
        "dependencies.llm.listen",
        "dependencies.llm.upstream",
        "faults.slow.target",
        "faults.slow.percent",
        "faults.slow.sticky",
        "faults.slow.use",
        "faults.slow.latency.add",
        "faults.slow.latency",
        "faults.slow.where.stream",
        "faults.slow.where.method",
        "faults.slow.where.path",
        "faults.slow.where.operation",
        "workload.app",
        "workload.users",
        "workload.timeout",
        "workload.prompts.preset",
        "workload.prompts.file",
        "workload.answer.text",
        "workload.request.path",
        "phases.0.name",
        "phases.0.gate",
        "expect.0.check",
        "dependencies.llm.region",
        "faults.slow.target.region",
        "phases.0.duration",
        "phases.0.faults.0",
        "phases.0.until",
        "expect.0",
        "safety.max_duration",
        "outputs.html",
        "outputs.prometheus",
        "recovered.metric",
        "recovered.within",
        "version",
        "seed",
        "identify.user",
    ];
    let base = "version: 1
dependencies:
  llm: { kind: openai, listen: 4001, upstream: https://a.example }
faults:
  slow: { target: llm, latency: { add: 1s }, where: { stream: true } }
workload:
  app: http://localhost:8000
  users: 3
  prompts: {}
phases:
  - { name: a, duration: 5s, faults: [slow] }
expect: [success_rate >= 1%]
";
    for place in places {
        for value in ["${KEY}", "x${KEY}y"] {
            let sets = [format!("{place}=\"{value}\"")];
            let plain = [format!("{place}={value}")];
            for sets in [&sets, &plain] {
                let text = match load("brownout.yaml", base, &Options { sets, ..options }) {
                    Ok(loaded) => format!("{}{}", loaded.warnings, loaded.plan.source_text),
                    Err(found) => format!("{found}{found:?}"),
                };
                assert!(!text.contains("planted"), "{place} shows the secret:\n{text}");
            }
        }
    }
    // The same from the file itself, through a variable.
    let file = base.replace("version: 1\n", "version: 1\nvars: { OWN: \"${KEY}\" }\n");
    let file = file.replace("add: 1s", "add: \"${OWN}\"");
    let found = refused(&file, &options);
    let text = format!("{found}{found:?}");
    assert!(text.contains("${OWN}") && !text.contains("planted"), "{text}");
}

#[test]
fn credentials_in_the_file_are_masked() {
    let text = "version: 1
dependencies:
  web: { kind: http, listen: 4001, upstream: \"https://a.example\" }
workload:
  app: \"http://me:sk-planted@localhost:8000\"
  users: 3
  duration: 1m
  request: { headers: { x-api-key: sk-planted, accept: text/plain } }
";
    let loaded = loaded(text, &Options::default());
    assert!(!loaded.plan.source_text.contains("planted"), "{}", loaded.plan.source_text);
    assert_eq!(loaded.plan.source_text.len(), text.len());
    assert!(!loaded.warnings.to_string().contains("planted"), "{}", loaded.warnings);
    assert!(!explain::explain(&loaded.plan).contains("planted"));
    let upstream = text.replace("https://a.example", "https://me:sk-planted@a.example");
    let found = refused(&upstream, &Options::default()).to_string();
    assert!(found.contains("no user name and password") && !found.contains("planted"), "{found}");
}

#[test]
fn the_ways_in_are_explained() {
    let text = "version: 1
dependencies:
  llm:
    kind: openai
    listen: 4001
    tls: minted
    upstream: https://api.openai.com
    upstream_tls: { server_name: edge.example }
    http: 2
    hosts: \"*.openai.azure.com\"
  store: { kind: qdrant, upstream: http://localhost:6333/base, path: /db, region: eu }
  sim: { kind: openai, simulate: true }
gateways: { shared: 4000, forward: 0, transparent: { listen: 15001, mode: tproxy }, clients: 10.0.0.0/8 }
";
    let plan = plan(text);
    assert_eq!(plan.gateways.clients, [([10, 0, 0, 0].into(), 8)]);
    assert_eq!(plan.dependencies[0].http, brownout::net::HttpVersion::Http2);
    assert_eq!(plan.dependencies[1].listen, None);
    let explained = explain::explain(&plan);
    for line in [
        "llm    127.0.0.1:4001 (TLS, a certificate made here) → https://api.openai.com   openai, known as \
         edge.example, HTTP/2",
        "shared gateway 127.0.0.1:4000: host api.openai.com:443 or *.openai.azure.com, or path /llm",
        "forward gateway 127.0.0.1 on a free port: host api.openai.com:443 or *.openai.azure.com",
        "store  gateways alone → http://localhost:6333/base   qdrant, region eu",
        "shared gateway 127.0.0.1:4000: host localhost:6333, or path /db",
        "transparent gateway 127.0.0.1:15001: host localhost:6333",
        "sim    gateways alone → simulated",
        "shared gateway 127.0.0.1:4000: path /sim",
    ] {
        assert!(explained.contains(line), "{line}\n{explained}");
    }
}

#[test]
fn files_of_certificates_are_looked_for_beside_the_experiment() {
    let folder = tempfile::tempdir().unwrap();
    let text = "version: 1\ndependencies:\n  llm: { kind: openai, listen: 0, upstream: \
                https://a.example, upstream_tls: { ca_file: ca.pem, client_cert: me.pem, client_key: \
                me.key } }\n";
    let file = folder.path().join("brownout.yaml");
    std::fs::write(&file, text).unwrap();
    let pem = |name: &str, what: &str| {
        let text = format!("-----BEGIN {what}-----\n-----END {what}-----\n");
        std::fs::write(folder.path().join(name), text).unwrap();
    };
    pem("ca.pem", "CERTIFICATE");
    pem("me.pem", "CERTIFICATE");
    pem("me.key", "EC PRIVATE KEY");
    let loaded = load_file(&file, &Options::default()).unwrap();
    let tls = &loaded.plan.dependencies[0].upstream_tls;
    assert_eq!(tls.ca_file.as_deref(), Some(&*folder.path().join("ca.pem")));
    assert_eq!(tls.client.as_ref().unwrap().key, folder.path().join("me.key"));
    pem("me.key", "CERTIFICATE");
    let found = load_file(&file, &Options::default()).unwrap_err().to_string();
    assert!(found.contains("`me.key` holds no private key"), "{found}");
    std::fs::remove_file(folder.path().join("ca.pem")).unwrap();
    let alone = Options { text_alone: true, ..Options::default() };
    pem("me.key", "PRIVATE KEY");
    let warnings = load_file(&file, &alone).unwrap().warnings.to_string();
    assert!(warnings.contains("warning: the file `ca.pem` cannot be read"), "{warnings}");
}

#[test]
fn prompts_come_from_a_file_beside_the_experiment() {
    let folder = tempfile::tempdir().unwrap();
    let text = SHORT.replace("users: 20,", "users: 20, prompts: { file: asks.jsonl },");
    std::fs::write(folder.path().join("brownout.yaml"), &text).unwrap();
    std::fs::write(folder.path().join("asks.jsonl"), "\"one\"\n{\"text\": \"two\"}\n").unwrap();
    let file = folder.path().join("brownout.yaml");
    let loaded = load_file(&file, &Options::default()).unwrap();
    let brownout::workload::Prompts::List(prompts) = loaded.plan.workload.unwrap().prompts else {
        panic!("a list")
    };
    assert_eq!(prompts.len(), 2);
    std::fs::rename(folder.path().join("asks.jsonl"), folder.path().join("ask.jsonl")).unwrap();
    let found = load_file(&file, &Options::default()).unwrap_err();
    assert!(found.to_string().contains("did you mean `ask.jsonl`?"), "{found}");
    assert!(load_file(&folder.path().join("none.yaml"), &Options::default()).is_err());
    assert!(load_file(folder.path(), &Options::default()).is_err());
}

// ── The schema ─────────────────────────────────────────────────────────────────────────────────

#[test]
fn by_its_text_alone_a_missing_prompt_file_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("brownout.yaml");
    let write = |body: &str| {
        let text = format!(
            "version: 1\ndependencies: {{ llm: {{ kind: openai, listen: 0, simulate: true }} }}\n\
             workload:\n  app: http://localhost:8000/chat\n  arrival_rate: 1/s\n  duration: 9s\n  \
             prompts: {{ file: gone.jsonl }}\n  request: {{ body: {{ q: \"{body}\" }} }}\n\
             expect: [ success_rate > 1% ]\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    write("${prompt.topic} for ${user.id}");
    let alone = Options { text_alone: true, ..Options::default() };
    let warnings = load_file(&file, &alone).unwrap().warnings.to_string();
    assert!(warnings.starts_with("warning: the prompt file `gone.jsonl` cannot"), "{warnings}");
    let error = load_file(&file, &Options::default()).unwrap_err().to_string();
    assert!(error.starts_with("error: the prompt file `gone.jsonl` cannot"), "{error}");
    write("${user.ident}");
    let error = load_file(&file, &alone).unwrap_err().to_string();
    assert!(error.contains("did you mean `${user.id}`?"), "{error}");
}

fn as_json(text: &str) -> serde_json::Value {
    serde_yaml::from_str(text).unwrap()
}

#[test]
fn examples_are_valid_by_the_schema() {
    let schema = schema_json();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for file in examples() {
        let value = as_json(&std::fs::read_to_string(&file).unwrap());
        let wrong: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{}\n{}", file.display(), wrong.join("\n"));
    }
}

#[test]
fn wrong_files_are_invalid_by_the_schema() {
    let validator = jsonschema::validator_for(&schema_json()).unwrap();
    assert!(validator.is_valid(&as_json(SHORT)));
    for (right, wrong) in [
        ("version: 1", "version: 2"),
        ("version: 1\n", ""),
        ("listen: 4001", "listen: 70000"),
        ("kind: openai", "kind: opanai"),
        ("retry_after: 5s", "retry_aftr: 5s"),
        ("target: llm", "targt: llm"),
        ("duration: 3m", "duration: 180"),
        ("users: 20", "users: many"),
        ("rate_limit:", "rate_limits:"),
        ("expect:", "expectations:"),
    ] {
        assert!(SHORT.contains(right), "{right}");
        let value = as_json(&SHORT.replacen(right, wrong, 1));
        assert!(!validator.is_valid(&value), "`{wrong}` passes");
    }
}

#[test]
fn the_schema_is_a_manual() {
    let schema = schema_json();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let effects = &schema["$defs"]["Fault"]["properties"];
    for kind in brownout::fault::KINDS {
        let text = effects[kind.name]["description"].as_str().unwrap_or("");
        assert!(text.contains(kind.summary) && text.contains(kind.example), "{}", kind.name);
    }
    let mut bare = Vec::new();
    undocumented("", &schema, &mut bare);
    assert!(bare.is_empty(), "keys without a description: {}", bare.join(", "));
}

fn undocumented(name: &str, schema: &serde_json::Value, bare: &mut Vec<String>) {
    match schema {
        serde_json::Value::Array(items) => {
            items.iter().for_each(|item| undocumented(name, item, bare));
        }
        serde_json::Value::Object(map) => {
            if let Some(properties) = map.get("properties").and_then(|one| one.as_object()) {
                // The one key of a choice is described by the choice.
                let choice = properties.len() == 1 && map.contains_key("description");
                for (key, property) in properties {
                    if property.get("description").is_none() && !choice {
                        bare.push(format!("{name}.{key}"));
                    }
                }
            }
            map.iter().for_each(|(key, value)| undocumented(key, value, bare));
        }
        _ => {}
    }
}

// ── Hostile text ───────────────────────────────────────────────────────────────────────────────

/// A debug build on a busy machine gets a generous bound; what it stops takes minutes or for ever.
fn within_seconds(what: &str, text: &str) {
    let began = Instant::now();
    let outcome = load("brownout.yaml", text, &Options::default());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(60), "{what} took {took:?}");
    let found = outcome.err().unwrap_or_else(|| panic!("{what} was taken"));
    assert!(found.to_string().len() < 20_000, "{what} makes a very long message");
}

#[test]
fn hostile_text_is_refused_in_bounded_time() {
    let mut laughs =
        String::from("version: 1\nx-0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..30 {
        let row = vec![format!("*a{}", level - 1); 8].join(", ");
        laughs.push_str(&format!("x-{level}: &a{level} [{row}]\n"));
    }
    within_seconds("an alias bomb", &laughs);
    let merges: String = (1..200)
        .map(|level| {
            format!("x-{level}: &m{level} {{ <<: [*m{0}, *m{0}], k{level}: 1 }}\n", level - 1)
        })
        .collect();
    within_seconds("a merge bomb", &format!("version: 1\nx-0: &m0 {{ a: 1 }}\n{merges}"));
    within_seconds("deep flow lists", &"[".repeat(100_000));
    within_seconds("deep flow maps", &"{a: ".repeat(100_000));
    within_seconds(
        "deep block maps",
        &(0..3000).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>(),
    );
    within_seconds("a long scalar", &format!("version: 1\nname: {}\n", "x".repeat(100_000_000)));
    within_seconds("a long line", &format!("version: 1\nnam: {}\n", "x".repeat(3_000_000)));
    within_seconds("many keys", &(0..300_000).map(|n| format!("k{n}: 1\n")).collect::<String>());
    within_seconds(
        "many unknown keys",
        &(0..20_000).map(|n| format!("k{n}: 1\n")).collect::<String>(),
    );
    let faults: String =
        (0..5000).map(|n| format!("  f{n}: {{ target: x, latency: {{ add: 3 }} }}\n")).collect();
    within_seconds("many wrong faults", &format!("version: 1\nfaults:\n{faults}"));
    let vars: String = (1..60).map(|n| format!("  V{n}: ${{V{0}}}${{V{0}}}\n", n - 1)).collect();
    within_seconds("doubling variables", &format!("version: 1\nvars:\n  V0: xx\n{vars}"));
    within_seconds(
        "nested defaults",
        &format!("version: 1\nname: \"{}x{}\"\n", "${A:-".repeat(5000), "}".repeat(5000)),
    );
    within_seconds("an own anchor", "version: 1\nx-a: &a [*a]\n");
    within_seconds("a NUL", "version: 1\0\n");
}

#[test]
fn a_large_file_is_not_read_in_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large.yaml");
    // Sparse: takes no room on the disk, but a terabyte when read.
    std::fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
    let found = load_file(&file, &Options::default()).unwrap_err();
    assert!(found.to_string().contains("larger than 4 MB"), "{found}");
}

/// Whatever the text, there is a plan or a mistake with a place inside the text.
fn check_outcome(text: &str, options: &Options<'_>) -> Result<(), TestCaseError> {
    let found = match load("brownout.yaml", text, options) {
        Ok(loaded) => {
            explain::explain(&loaded.plan);
            loaded.warnings
        }
        Err(found) => {
            prop_assert!(found.errors().next().is_some());
            found
        }
    };
    let lines: Vec<&str> = text.split('\n').collect();
    for one in &found.list {
        let spot = one.spot.as_ref().expect("each mistake has a place");
        if spot.source != "brownout.yaml" {
            continue;
        }
        let line = lines.get(spot.line as usize - 1);
        prop_assert!(line.is_some(), "line {} of {}: {one}", spot.line, lines.len());
        let width = line.unwrap_or(&"").chars().count() as u32;
        prop_assert!(spot.column >= 1 && spot.column <= width + 1, "{one}");
        prop_assert!(!one.message.is_empty());
        let _ = one.to_string();
    }
    Ok(())
}

/// Splits into words, marks and blanks, so that a mutation hits what has meaning.
fn tokens(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == '.' || c == '%';
        let len = if word(first) {
            rest.find(|c| !word(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        found.push(&rest[..len]);
        rest = &rest[len..];
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in "[ -~\n\t\u{e9}]{0,200}") {
        check_outcome(&text, &Options::default())?;
    }

    #[test]
    fn no_experiment_like_text_panics(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "version", "dependencies", "faults", "phases", "expect", "workload", "target", "llm",
                "latency", "add", "where", "name", "duration", "percent", "safety", "profiles", "vars",
                ": ", ":", "\n", "\n  ", "\n    ", "- ", "{ ", " }", "[", "]", ", ", "1", "5s", "20%",
                "${A}", "${", "5 -> 40", "&a ", "*a", "<<", "'", "\"", "|", "#", "null", "true", "é",
            ]),
            0..60,
        ),
    ) {
        check_outcome(&words.concat(), &Options::default())?;
    }

    #[test]
    fn a_damaged_file_is_a_plan_or_has_a_place(
        damage in proptest::collection::vec(
            (any::<proptest::sample::Index>(), 0..4usize, any::<proptest::sample::Index>()),
            1..5,
        ),
        profile in any::<bool>(),
    ) {
        let all = tokens(FULL);
        let mut text: Vec<&str> = all.clone();
        for (at, how, other) in damage {
            let at = at.index(text.len());
            match how {
                0 => { text.remove(at); }
                1 => text[at] = all[other.index(all.len())],
                2 => text.insert(at, all[other.index(all.len())]),
                _ => text[at] = ["", "0", "-1", "null", "1e999", "{}", "[]", "é", "a: b", "'"][other.index(10)],
            }
        }
        let options = Options { profile: profile.then_some("ci"), ..Options::default() };
        check_outcome(&text.concat(), &options)?;
    }

    #[test]
    fn no_setting_panics(
        path in "[a-z.0-2]{0,20}|faults.overloaded.[a-z]{0,8}|phases.[0-3].[a-z]{0,8}",
        value in "[ -~]{0,20}",
    ) {
        let sets = [format!("{path}={value}")];
        check_outcome(FULL, &Options { sets: &sets, ..Options::default() })?;
    }
}
