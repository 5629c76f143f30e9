//! Mistakes in how apps reach the dependencies: listeners, gateways, TLS, upstreams.

use super::{Case, complaints};

const SHARED: &str = "version: 1\ngateways: { shared: 4000 }\n";
const FORWARD: &str = "version: 1\ngateways: { forward: 4080 }\n";

const CASES: &[Case] = &[
    // ── Reached by nothing ─────────────────────────────────────────────────────────────────────
    Case(
        "$FORWARD\ndependencies:\n  »llm: { kind: openai, simulate: true }\n",
        &["`llm` needs `listen`", "hosts: [api.example.com]"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 1, simulate: true }\n  »store: { \
         kind: qdrant, simulate: true }\ngateways: { clients: 10.0.0.0/8 }\n",
        &["`store` needs `listen`", "gateways: { shared: 4000 }"],
    ),
    // ── Gateways ───────────────────────────────────────────────────────────────────────────────
    Case("version: 1\n$DEPS\ngateways: { »share: 4000 }\n", &["`share`", "did you mean `shared`?"]),
    Case("version: 1\n$DEPS\ngateways: »4000\n", &["`gateways` takes a map of shared, forward"]),
    Case("version: 1\n$DEPS\ngateways: { shared: »70000 }\n", &["70000 is no port"]),
    Case("version: 1\n$DEPS\ngateways: { forward: »yes }\n", &["`yes`", "4001"]),
    Case(
        "version: 1\n$DEPS\ngateways: { shared: »4001 }\n",
        &["the shared gateway and `llm` both listen on port 4001", "line 2"],
    ),
    Case(
        "version: 1\n$DEPS\ngateways:\n  shared: 4000\n  forward: »\"0.0.0.0:4000\"\n",
        &["the forward gateway and the shared gateway both listen on port 4000", "line 4"],
    ),
    Case(
        "version: 1\n$DEPS\ngateways: { transparent: { listen: »4001 } }\n",
        &["the transparent gateway and `llm` both listen on port 4001"],
    ),
    Case(
        "version: 1\n$DEPS\ngateways: { »transparent: { mode: tproxy } }\n",
        &["the transparent gateway needs `listen`", "15001"],
    ),
    Case(
        "version: 1\n$DEPS\ngateways: { transparent: { listen: 15001, mode: »nat } }\n",
        &["`mode` cannot be `nat`", "redirect, tproxy"],
    ),
    Case(
        "version: 1\n$DEPS\ngateways: { forward: 4080, clients: [10.0.0.0/8, »10.1.2.3/8] }\n",
        &["`10.1.2.3/8` has bits set", "write 10.0.0.0/8"],
    ),
    Case(
        "version: 1\n$DEPS\ngateways: { forward: 4080, clients: »office }\n",
        &["`office` is no network", "10.0.0.0/8"],
    ),
    // ── What means a dependency there ──────────────────────────────────────────────────────────
    Case(
        "$SHARED\ndependencies:\n  llm: { kind: openai, hosts: »https://api.openai.com, simulate: true }\n",
        &["`https://api.openai.com` is more than a host", "*.openai.azure.com"],
    ),
    Case(
        "$SHARED\ndependencies:\n  llm: { kind: openai, hosts: [»api.*.com], simulate: true }\n",
        &["`api.*.com` has `*` elsewhere", "*.example.com"],
    ),
    Case(
        "$SHARED\ndependencies:\n  a: { kind: openai, hosts: [x.example], simulate: true }\n  b: { kind: \
         openai, hosts: [y.example, »x.example], simulate: true }\n",
        &["`b` and `a` both name the host `x.example`", "port"],
    ),
    Case(
        "$FORWARD\ndependencies:\n  llm: { kind: openai, upstream: https://api.openai.com }\n  embeddings: \
         { kind: openai, upstream: »https://api.openai.com/v2 }\n",
        &[
            "`embeddings` and `llm` are both api.openai.com at port 443",
            "line 5",
            "hosts: [api.openai.com]",
        ],
    ),
    Case(
        "$SHARED\ndependencies:\n  llm: { kind: openai, path: »openai, simulate: true }\n",
        &["`openai` is no prefix", "/openai"],
    ),
    Case(
        "$SHARED\ndependencies:\n  llm: { kind: openai, path: »/a//b?x, simulate: true }\n",
        &["`/a//b?x` is no prefix"],
    ),
    Case(
        "$SHARED\ndependencies:\n  llm: { kind: openai, simulate: true }\n  gpt: { kind: openai, path: \
         »/llm/, simulate: true }\n",
        &["`gpt` and `llm` both have the prefix `/llm`", "another `path`"],
    ),
    Case(
        "$SHARED\ndependencies:\n  »größe: { kind: openai, simulate: true }\n",
        &["`größe` makes no prefix", "`path: /llm`"],
    ),
    // ── Upstreams ──────────────────────────────────────────────────────────────────────────────
    Case(
        "$SHARED\ndependencies:\n  llm: { kind: openai, upstream: »http://localhost:4000/llm }\n",
        &["the upstream of `llm` is the shared gateway of this file"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 4001, upstream: »https://me:pw@api.example }\n",
        &["no user name and password", "the app sends its own"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 4001, upstream: »tcp://api.example:1 }\n",
        &["is a tcp URL; only http and https"],
    ),
    // ── TLS ────────────────────────────────────────────────────────────────────────────────────
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 4001, tls: »mint, simulate: true }\n",
        &["`mint` is no certificate", "minted"],
    ),
    Case(
        "$SHARED\ndependencies:\n  llm: { kind: openai, »tls: minted, simulate: true }\n",
        &["`tls` is for the `listen` of `llm`, which has none"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 4001, tls: { cert: »Cargo.toml, key: \
         tests/it/mistakes/key.pem }, simulate: true }\n",
        &["`Cargo.toml` holds no certificate", "PEM"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 4001, tls: { cert: »gone.pem }, simulate: true }\n",
        &["`cert` needs `key` beside it"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 4001, upstream: https://a.example, \
         upstream_tls: { ca_file: »gone.pem } }\n",
        &["`gone.pem` cannot be read: there is no such file", "beside the experiment file"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 4001, upstream: https://a.example, \
         upstream_tls: { client_key: »a.key } }\n",
        &["`client_key` needs `client_cert` beside it"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 4001, upstream: http://a.example, \
         »upstream_tls: { server_name: b.example } }\n",
        &["`upstream_tls` of `llm` has no effect", "https://"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 4001, upstream: https://a.example, \
         upstream_tls: { server_name: »\"b.example:443\" } }\n",
        &["`b.example:443` is no name of a server", "without a port"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 4001, upstream: https://a.example, http: »3 }\n",
        &["`3` is no version of HTTP", "\"1.1\""],
    ),
];

const WARNINGS: &[Case] = &[
    Case(
        "version: 1\n$DEPS\ngateways: { shared: »\"0.0.0.0:4000\" }\n",
        &["listens on 0.0.0.0:4000, beyond this machine", "whoever reaches that address"],
    ),
    Case(
        "version: 1\n$DEPS\ngateways: { forward: »\"0.0.0.0:4080\" }\n",
        &["beyond this machine", "serves this machine alone", "gateways.clients"],
    ),
    Case(
        "version: 1\n$DEPS\ngateways: { transparent: { listen: »\"[::]:15001\" }, clients: [10.0.0.0/8, \"fd00::/8\"] }\n",
        &["beyond this machine", "serves this machine and 10.0.0.0/8, fd00::/8"],
    ),
    Case(
        "version: 1\n$DEPS\ngateways: { forward: 4080, »clients: [0.0.0.0/0] }\n",
        &["everybody", "open proxy"],
    ),
    Case(
        "version: 1\n$DEPS\ngateways: { shared: 4000, »clients: [10.0.0.0/8] }\n",
        &["`clients` has no effect", "forward"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 4001, »path: /x, simulate: true }\n",
        &["`path` has no effect", "no shared gateway"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 4001, »hosts: a.example, simulate: true }\n",
        &["`hosts` has no effect"],
    ),
    Case(
        "version: 1\ndependencies:\n  llm: { kind: openai, listen: 4001, upstream: https://a.example, \
         upstream_tls: { insecure: »true } }\n",
        &["may show any certificate", "ca_file"],
    ),
];

fn spelled(cases: &[Case]) -> Vec<(String, &'static [&'static str])> {
    let spell = |text: &str| text.replace("$SHARED", SHARED).replace("$FORWARD", FORWARD);
    cases.iter().map(|Case(text, words)| (spell(text), *words)).collect()
}

#[test]
fn each_mistake_is_told_at_its_place() {
    let cases = spelled(CASES);
    let wrong = complaints(
        cases.iter().map(|(text, words)| (text.as_str(), *words)),
        super::Severity::Error,
    );
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn what_is_odd_but_works_is_a_warning() {
    let cases = spelled(WARNINGS);
    let wrong = complaints(
        cases.iter().map(|(text, words)| (text.as_str(), *words)),
        super::Severity::Warning,
    );
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
