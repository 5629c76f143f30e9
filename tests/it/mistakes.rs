//! Typical mistakes in an experiment file. Each names the right place and the right word.
//!
//! `»` stands before the place that the message must point at; it is taken out before loading.

mod reach;
mod selection;

use brownout::config::{Diagnostics, Options, Severity, load};

/// A mistake: the file, and what the message (label and hints included) must say.
struct Case(&'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    // ── The YAML itself ────────────────────────────────────────────────────────────────────────
    Case("»", &["empty", "version: 1"]),
    Case("»just words", &["map of keys", "just words"]),
    Case("version: 1\ndependencies:\n\t»llm: {}\n", &["YAML", "tab"]),
    Case("version: 1\nname: a\n»name: b\n", &["`name`", "twice"]),
    Case("version: 1\nname: »\"open\n", &["YAML"]),
    Case("version: 1\nname: »*nowhere\n", &["YAML"]),
    Case(
        "version: 1\nphases:\n  - name: a\n    duration: 5s\n   »faults: []\n",
        &["YAML", "indentation"],
    ),
    Case("version: 1\nworkload: { app: $»{APP_URL}, users: 3 }\n", &["YAML", "in quotes"]),
    // ── The top ────────────────────────────────────────────────────────────────────────────────
    Case(
        "»dependencies:\n  llm: { kind: openai, listen: 4001, simulate: true }\n",
        &["does not say its version", "`version: 1`"],
    ),
    Case("version: »2\n$DEPS", &["version 2", "write 1"]),
    Case("version: »one\n$DEPS", &["`version`", "whole number", "`one`"]),
    Case("»version: 1\n", &["names no dependencies", "kind: openai"]),
    Case("version: 1\n$DEPS\n»fault: {}\n", &["unknown key `fault`", "did you mean `faults`?"]),
    Case("version: 1\n$DEPS\n»thresholds: []\n", &["`thresholds`", "did you mean `expect`?"]),
    Case("version: 1\nseed: »-4\n$DEPS", &["`seed`", "0 or more"]),
    // ── Handshakes ─────────────────────────────────────────────────────────────────────────────
    Case(
        "version: 1\n$DEPS\nfaults:\n  ran-out: { target: llm, »tls: { mode: expired } }\n",
        &["`tls` in fault `ran-out`", "`llm` has none", "`tls: minted`"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  gone: { target: llm, »outage: { mode: tls } }\n",
        &["`outage` in fault `gone`", "TLS with the app"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 4001, tls: minted, simulate: true }\n\
         faults:\n  f: { target: llm, »where: { path: /v1/* }, tls: { mode: reset } }\n",
        &["`where` of fault `f`", "before any"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 4001, tls: minted, simulate: true }\n\
         faults:\n  f: { target: llm, sticky: »api_key, tls: { mode: reset } }\n",
        &["`sticky` of fault `f`", "before any"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  f: { target: llm, tls: { mode: »broken } }\n",
        &["`broken`", "wrong_name"],
    ),
    // ── Dependencies ───────────────────────────────────────────────────────────────────────────
    Case(
        "version: 1\ndependencies:\n  llm: { kind: »opanai, listen: 4001, simulate: true }\n",
        &["unknown kind `opanai`", "did you mean `openai`?", "kinds: ", "qdrant"],
    ),
    Case(
        "version: 1\ndependencies:\n  »llm: { listen: 4001, simulate: true }\n",
        &["`llm` needs a `kind`", "openai"],
    ),
    Case(
        "version: 1\ndependencies:\n  »llm: { kind: openai, simulate: true }\n",
        &["`llm` needs `listen`", "4001"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: »70000, simulate: true }\n",
        &["70000 is no port", "65535"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: »here:4001, simulate: true }\n",
        &["`here:4001`", "0.0.0.0:4001"],
    ),
    Case(
        "version: 1\ndependencies:\n  a: { kind: http, listen: 4001, upstream: http://a.example }\n  \
         b: { kind: http, listen: »4001, upstream: http://b.example }\n",
        &["`b` and `a` both listen on port 4001", "line 3"],
    ),
    Case(
        "version: 1\ndependencies:\n  »llm: { kind: openai, listen: 4001 }\n",
        &["needs `upstream` or `simulate`"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm:\n    kind: openai\n    listen: 4001\n    upstream: \
         https://api.openai.com\n    »simulate: true\n",
        &["both `upstream` and `simulate`", "keep one"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 4001, upstream: »localhost:9000 }\n",
        &["`localhost:9000` lacks http://"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: http, listen: 4001, upstream: »ftp://files.example }\n",
        &["ftp", "http and https"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: http, listen: 4001, upstream: »http://localhost:4001 }\n",
        &["itself"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, »port: 4001, simulate: true }\n",
        &["unknown key `port` in `llm`", "did you mean `listen`?"],
    ),
    Case(
        "version: 1\ndependencies:\n  web: { kind: http, listen: 4001, »simulate: true }\n",
        &["no simulator of kind `http`", "upstream"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 4001, simulate: { model: »smal } }\n",
        &["`smal`", "did you mean `small`?"],
    ),
    Case(
        "version: 1\ndependencies:\n  »my llm: { kind: openai, listen: 4001, simulate: true }\n",
        &["`my llm` cannot name a dependency", "letters"],
    ),
    Case(
        "version: 1\n$DEPS\nidentify: { user: »cookie sid }\n",
        &["`cookie sid`", "header x-user-id"],
    ),
    // ── Faults ─────────────────────────────────────────────────────────────────────────────────
    Case(
        "version: 1\n$DEPS\nfaults:\n  cut:\n    target: llm\n    »trunctate: { after: 3 tokens }\n",
        &["unknown effect `trunctate` in fault `cut`", "did you mean `truncate`?", "effects: "],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  cut:\n    target: llm\n    degrade: { »how: badly }\n",
        &["unknown key `how` in `degrade`", "keys: text"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  cut:\n    target: llm\n    retrieval: { shards_failed: »5 of 5 }\n",
        &["`shards_failed`: `5 of 5`", "write for example 2 of 5"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  cut:\n    target: llm\n    embedding: { vectors: zeros, cosine: »0.5 }\n",
        &["`cosine` goes with `vectors: noise` alone"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: llm, latency: { add: »300 } }\n",
        &["`add`: 300 what?", "write 300ms or 300s"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: llm, latency: { »ad: 300ms } }\n",
        &["unknown key `ad` in `latency`", "did you mean `add`?"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: llm, latency: »300ms }\n",
        &["`latency` takes a map of add", "the text `300ms`"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: llm, »latency: }\n",
        &["`latency` is empty", "give it a value"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: »lm, latency: { add: 1s } }\n",
        &["unknown dependency `lm`", "did you mean `llm`?"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: [llm, »vector], latency: { add: 1s } }\n",
        &["unknown dependency `vector`", "dependencies: llm"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: { region: »eu }, latency: { add: 1s } }\n",
        &["no dependency is in region `eu`", "region: eu"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  »slow: { latency: { add: 1s } }\n",
        &["fault `slow` has no `target`", "llm"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { »on: llm, target: llm, latency: { add: 1s } }\n",
        &["`on`", "did you mean `target`?"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  »nothing: { target: llm }\n",
        &["fault `nothing` does nothing", "effects: ", "use: NAME"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: llm, percent: »often, latency: { add: 1s } }\n",
        &["`often` is no percent", "0 to 100"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: llm, percent: »200, latency: { add: 1s } }\n",
        &["200 is no percent", "0 to 100"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: llm, »probability: 0.5, latency: { add: 1s } }\n",
        &["`probability`", "did you mean `percent`?"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: llm, sticky: »user, latency: { add: 1s } }\n",
        &["how a user is recognised", "identify.user", "header x-user-id"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: llm, sticky: »connection, latency: { add: 1s } }\n",
        &["`sticky` cannot be `connection`", "session"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: llm, where: { stream: »yes }, latency: { add: 1s } }\n",
        &["`stream` takes true or false", "`yes`", "write true"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: llm, where: { path: »v1/chat }, latency: { add: 1s } }\n",
        &["`v1/chat`", "begin with `/`"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: llm, where: { method: »PSOT }, latency: { add: 1s } }\n",
        &["`PSOT` is no method", "did you mean `POST`?"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: llm, where: { operation: »chatting }, latency: { add: 1s } }\n",
        &["`operation` cannot be `chatting`", "did you mean `chat`?"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: llm, use: »browout }\n",
        &["no fault `browout`", "did you mean `", "brownout`?", "catalogue: "],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  down: { target: llm, error: { status: »abc } }\n",
        &["`status`", "`abc`"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  full: { target: llm, »rate_limit: { scope: user } }\n",
        &["rate_limit", "requests_per_minute"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  down: { target: llm, outage: { mode: »blackhol } }\n",
        &["`mode` cannot be `blackhol`", "did you mean `blackhole`?"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  down: { target: llm, outage: { mode: rst_stream, code: »CANCELED } }\n",
        &["`CANCELED` is no error code of HTTP/2", "CANCEL,"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  down: { target: llm, outage: { mode: reset, code: »CANCEL } }\n",
        &["`code` belongs to `mode: rst_stream`"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  cut: { target: llm, truncate: { after: 3 events, code: »8 } }\n",
        &["`code` belongs to `ending: rst_stream`"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  down: { target: llm, error: { grpc_status: »DOWN } }\n",
        &["`DOWN` is no status of gRPC", "UNAVAILABLE"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  down: { target: llm, error: { grpc_status: »OK } }\n",
        &["0 (OK) is no failure", "UNAVAILABLE"],
    ),
    // ── Workload ───────────────────────────────────────────────────────────────────────────────
    Case(
        "version: 1\n$DEPS\n»workload: { users: 3, duration: 1m }\n",
        &["does not say where the app is", "app: http"],
    ),
    Case(
        "version: 1\n$DEPS\nworkload: { app: »localhost:8000/chat, users: 3, duration: 1m }\n",
        &["lacks http://"],
    ),
    Case(
        "version: 1\n$DEPS\n»workload: { app: http://localhost:8000, duration: 1m }\n",
        &["how much traffic", "arrival_rate: 5/s"],
    ),
    Case(
        "version: 1\n$DEPS\nworkload: { app: http://localhost:8000, arrival_rate: 1/s, »users: 3, \
         duration: 1m }\n",
        &["both `arrival_rate` and `users`", "open model"],
    ),
    Case(
        "version: 1\n$DEPS\nworkload: { app: http://localhost:8000, arrival_rate: »5, duration: 1m }\n",
        &["5 per what?", "write 5/s"],
    ),
    Case(
        "version: 1\n$DEPS\nworkload: { app: http://localhost:8000, arrival_rate: { stages: [{ to: \
         »12 }] }, duration: 1m }\n",
        &["12 per what?"],
    ),
    Case(
        "version: 1\n$DEPS\n»workload: { app: http://localhost:8000, users: 3 }\n",
        &["how long the run lasts", "duration: 3m"],
    ),
    Case(
        "version: 1\n$DEPS\nworkload: { app: http://localhost:8000, users: 3, duration: »1:30 }\n",
        &["1m30s"],
    ),
    Case(
        "version: 1\n$DEPS\nworkload:\n  app: http://localhost:8000\n  users: 3\n  duration: 1m\n  \
         prompts: { file: »nowhere.jsonl }\n",
        &["`nowhere.jsonl`", "no such file"],
    ),
    Case(
        "version: 1\n$DEPS\nworkload:\n  app: http://localhost:8000\n  users: 3\n  duration: 1m\n  \
         prompts: { preset: »rag-suport }\n",
        &["`rag-suport`", "did you mean `rag-support`?"],
    ),
    Case(
        "version: 1\n$DEPS\nworkload:\n  app: http://localhost:8000\n  users: 3\n  duration: 1m\n  \
         sessions: { turns: »6..2 }\n",
        &["runs backwards", "2..6"],
    ),
    Case(
        "version: 1\n$DEPS\nworkload:\n  app: http://localhost:8000\n  users: 3\n  duration: 1m\n  \
         answer: { stream: sse, text: »delta }\n",
        &["`delta` is no JSONPath", "$.delta"],
    ),
    Case(
        "version: 1\n$DEPS\nworkload:\n  app: http://localhost:8000\n  users: 3\n  duration: 1m\n  \
         request: { body: { message: \"»${promt.text}\" } }\n",
        &["${promt.text}", "${prompt.text}"],
    ),
    Case(
        "version: 1\n$DEPS\nworkload:\n  app: http://localhost:8000/»${prompt.text}\n  users: 3\n  \
         duration: 1m\n",
        &["filled in for each request", "workload.request"],
    ),
    Case(
        "version: 1\n$DEPS\nworkload: { app: \"»${APP_URL}\", users: 3, duration: 1m }\n",
        &["`APP_URL` is set neither in `vars` nor in the environment", "${APP_URL:-"],
    ),
    // ── Phases ─────────────────────────────────────────────────────────────────────────────────
    Case("$LOADED\nphases:\n  - »{ name: baseline }\n", &["`baseline` needs a `duration`"]),
    Case("$LOADED\nphases:\n  - »{ duration: 5s }\n", &["needs a `name`"]),
    Case(
        "$LOADED\nphases:\n  - { name: a, duration: 5s }\n  - { name: »a, duration: 5s }\n",
        &["two phases are called `a`"],
    ),
    Case(
        "$LOADED\nphases:\n  - { name: a, duration: 5s, faults: [»storms] }\n",
        &["unknown fault `storms` in phase `a`", "did you mean `storm`?"],
    ),
    Case(
        "$LOADED\nphases:\n  - name: a\n    duration: 5s\n    faults:\n      - »strom: { percent: 5 }\n",
        &["unknown fault `strom`", "did you mean `storm`?"],
    ),
    Case(
        "$LOADED\nphases:\n  - { name: a, duration: 5s, faults: [{ storm: { percent: »5 -> 400 } }] }\n",
        &["400 is no percent"],
    ),
    Case(
        "$LOADED\nphases:\n  - { name: a, duration: 5s, faults: »storm }\n",
        &["`faults` takes a list", "[storm]"],
    ),
    Case(
        "$LOADED\nphases:\n  - { name: a, duration: 5s, until: »recoverd }\n",
        &["`until` cannot be `recoverd`", "did you mean `recovered`?"],
    ),
    Case(
        "$LOADED\nphases:\n  - { name: a, duration: 5s, gate: [success_rate >= 99% during »b] }\n",
        &["unknown phase `b`", "phases: a"],
    ),
    // ── Expectations ───────────────────────────────────────────────────────────────────────────
    Case(
        "$LOADED\nexpect:\n  - »succes_rate >= 97%\n",
        &["unknown metric `succes_rate`", "success_rate"],
    ),
    Case(
        "$LOADED\nexpect:\n  - success_rate >= 97% during »faults\n",
        &["unknown phase `faults`", "did you mean `fault`?", "baseline"],
    ),
    Case(
        "$LOADED\nexpect:\n  - retry_amplification(»lm) < 1.5\n",
        &["unknown dependency `lm`", "did you mean `llm`?"],
    ),
    Case("$LOADED\nexpect:\n  - success_rate »=> 97%\n", &["=>"]),
    Case("$LOADED\nexpect:\n  - p95(ttft) < »2500\n", &["2500", "2500ms"]),
    Case(
        "$LOADED\nexpect:\n  - time_to_recover < 30s after »recovery\n",
        &["`recovery` is the last phase", "nothing comes after it"],
    ),
    Case(
        "$LOADED\nexpect:\n  - { check: success_rate >= 97%, severity: »warning }\n",
        &["`severity` cannot be `warning`", "did you mean `warn`?"],
    ),
    Case("$LOADED\nexpect:\n  - »{ severity: warn }\n", &["needs a `check`"]),
    Case(
        "$LOADED\nrecovered: { metric: »sucess_rate, within: 10% }\n",
        &["`sucess_rate`", "success_rate"],
    ),
    Case("$LOADED\nrecovered: { within: »10 }\n", &["`10`", "10% of baseline"]),
    // ── Safety and outputs ─────────────────────────────────────────────────────────────────────
    Case("$LOADED\nsafety: { abort_when: [success_rate »<< 50%] }\n", &["<"]),
    Case(
        "$LOADED\nsafety:\n  abort_when:\n    - »probe: { every: 5s }\n",
        &["a probe needs a URL"],
    ),
    Case("$LOADED\nsafety: { max_duration: »15 }\n", &["15 what?", "write 15ms or 15s"]),
    Case("$LOADED\noutputs: { html: »../report.html }\n", &["`../report.html`", "outputs.dir"]),
    Case("$LOADED\noutputs: { prometheus: »everywhere }\n", &["`everywhere`", "127.0.0.1:9464"]),
    Case(
        "$LOADED\nprofiles: { ci: { »worklod: {} } }\n",
        &["`worklod`", "did you mean `workload`?"],
    ),
];

const WARNINGS: &[Case] = &[
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: llm, percent: »0.2, latency: { add: 1s } }\n",
        &["0.2", "did you mean 20?"],
    ),
    Case(
        "$LOADED\noutputs: { »github: auto }\n",
        &["`outputs.github` is not built yet", "ignored"],
    ),
    Case("$LOADED\noutputs: { »otlp: http://localhost:4318 }\n", &["`outputs.otlp`", "ignored"]),
    Case("$LOADED\nsafety: { max_duration: »1m }\n", &["3m together", "stops the run after 1m"]),
    Case(
        "version: 1\n$DEPS\nfaults:\n  slow: { target: llm, where: { operation: »search }, latency: \
         { add: 1s } }\n",
        &["`search` is no operation of kind `openai`", "never act"],
    ),
    Case(
        "version: 1\n$DEPS\nfaults:\n  »spare: { target: llm, latency: { add: 1s } }\nphases: [{ name: \
         a, duration: 5s }]\n",
        &["no phase arms the fault `spare`"],
    ),
    Case(
        "version: 1\n$DEPS\nworkload:\n  app: http://localhost:8000\n  users: 3\n  duration: 1m\n  \
         request: { headers: { »authorization: Bearer sk-planted } }\n",
        &["`authorization` holds a credential", "${API_KEY}"],
    ),
];

const DEPS: &str = "dependencies: { llm: { kind: openai, listen: 4001, simulate: true } }";
const LOADED: &str = "version: 1\ndependencies: { llm: { kind: openai, listen: 4001, simulate: \
                      true } }\nfaults: { storm: { target: llm, error: { status: 503 } } }\n\
                      workload: { app: http://localhost:8000, users: 3, duration: 3m }";

/// The file without its marker, and where that stood.
fn unmarked(case: &str) -> (String, u32, u32) {
    let text = case.replace("$DEPS", DEPS).replace("$LOADED", LOADED);
    let at = text.find('»').expect("each case has a marker");
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (text.replace('»', ""), line as u32, column as u32)
}

fn diagnostics(text: &str) -> Diagnostics {
    match load("brownout.yaml", text, &Options::default()) {
        Ok(loaded) => loaded.warnings,
        Err(diagnostics) => diagnostics,
    }
}

fn complaints<'a>(
    cases: impl IntoIterator<Item = (&'a str, &'a [&'a str])>,
    wanted: Severity,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (case, words) in cases {
        let (text, line, column) = unmarked(case);
        let found = diagnostics(&text);
        let matching = found.list.iter().find(|one| {
            let spot = one.spot.as_ref();
            let shown = one.to_string();
            one.severity == wanted
                && spot.is_some_and(|spot| (spot.line, spot.column) == (line, column))
                && words.iter().all(|word| shown.contains(word))
        });
        let errors = found.errors().count();
        let expected = usize::from(wanted == Severity::Error);
        if matching.is_none() || errors != expected {
            wrong.push(format!(
                "── {text}\nwanted {words:?} at {line}:{column} as the only error, got\n{found}"
            ));
        }
    }
    wrong
}

fn pairs(cases: &[Case]) -> impl Iterator<Item = (&str, &[&str])> {
    cases.iter().map(|Case(text, words)| (*text, *words))
}

#[test]
fn each_mistake_is_told_at_its_place() {
    assert!(CASES.len() >= 40);
    let wrong = complaints(pairs(CASES), Severity::Error);
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

#[test]
fn what_is_odd_but_works_is_a_warning() {
    let wrong = complaints(pairs(WARNINGS), Severity::Warning);
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), WARNINGS.len(), wrong.join("\n"));
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = "version: 1
dependencies:
  llm: { kind: opanai, listen: 4001, simulate: true }
  vectors: { kind: qdrant, listen: 4001, upstream: localhost }
faults:
  cut: { target: lm, trunctate: { after: 3 tokens } }
  slow: { target: vectors, percent: often, latency: { add: 300, ad: 1s } }
workload: { app: http://localhost:8000, users: many, arival_rate: 5/s }
phases:
  - { name: a, duration: 60 }
  - { name: b, duration: 60s, faults: [slwo] }
expect:
  - succes_rate >= 1%
  - success_rate >= 1% during c
";
    let found = diagnostics(text);
    let places: Vec<(u32, u32)> = found
        .errors()
        .map(|one| one.spot.as_ref().map_or((0, 0), |spot| (spot.line, spot.column)))
        .collect();
    let expected = [
        (3, 16),
        (4, 36),
        (4, 52),
        (6, 18),
        (6, 22),
        (7, 37),
        (7, 60),
        (7, 65),
        (8, 48),
        (8, 54),
        (10, 26),
        (11, 40),
        (13, 5),
        (14, 31),
    ];
    for place in expected {
        assert!(places.contains(&place), "nothing at {place:?}:\n{found}");
    }
    assert_eq!(places.len(), expected.len(), "{found}");
}

#[test]
fn a_message_shows_the_line_the_place_and_the_right_form() {
    let text = "version: 1
dependencies:
  llm: { kind: openai, listen: 4001, simulate: true }
faults:
  slow:
    target: llm
    latency: { add: 300 }
";
    insta::assert_snapshot!(diagnostics(text), @r"
    error: `add`: 300 what?
      ┌ brownout.yaml:7:21
    7│     latency: { add: 300 }
     │                     ^^^ write 300ms or 300s
    ");
    let text = "version: 1
dependencies:
  llm: { kind: openai, listen: 4001, simulate: true }
faults:
  cut:
    target: llm
    where: { strem: true }
    truncate: { after: 30% tokens, ending: close }
";
    insta::assert_snapshot!(diagnostics(text), @r"
    error: unknown key `strem` in `where`
      ┌ brownout.yaml:7:14
    7│     where: { strem: true }
     │              ^^^^^ did you mean `stream`?
      = keys: path, method, host, header, model, stream, operation, user, session, api_key, turn, prompt_tokens, max_tokens, has_tools, tools, collection, prompt, body, json
    ");
}
