//! The names that the clients of each kind read, and the form in which they want the address.

use super::{Address, Environment, Place, Variable, Variables};

/// The form of a value.
#[derive(Clone, Copy)]
enum Form {
    /// The origin with this path behind it.
    Url(&'static str),
    /// The host alone.
    Host,
    /// The port alone.
    Port,
}

use Form::{Host, Port, Url};

/// Names and forms, by kind. `openai` clients want the `/v1`, the others the origin.
const KNOWN: &[(&str, &[(&str, Form)])] = &[
    ("openai", &[("OPENAI_BASE_URL", Url("/v1")), ("OPENAI_API_BASE", Url("/v1"))]),
    ("azure-openai", &[("AZURE_OPENAI_ENDPOINT", Url(""))]),
    ("anthropic", &[("ANTHROPIC_BASE_URL", Url("")), ("ANTHROPIC_API_BASE", Url(""))]),
    ("anthropic-vertex", &[("ANTHROPIC_VERTEX_BASE_URL", Url("/v1"))]),
    ("gemini", &[("GOOGLE_GEMINI_BASE_URL", Url(""))]),
    ("vertex", &[("GOOGLE_VERTEX_BASE_URL", Url(""))]),
    (
        "bedrock",
        &[
            ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", Url("")),
            ("ANTHROPIC_BEDROCK_BASE_URL", Url("")),
            ("AWS_BEDROCK_BASE_URL", Url("")),
        ],
    ),
    // Their clients are OpenAI's.
    ("vllm", &[("OPENAI_BASE_URL", Url("/v1")), ("OPENAI_API_BASE", Url("/v1"))]),
    ("sglang", &[("OPENAI_BASE_URL", Url("/v1")), ("OPENAI_API_BASE", Url("/v1"))]),
    ("llama-cpp", &[("OPENAI_BASE_URL", Url("/v1")), ("OPENAI_API_BASE", Url("/v1"))]),
    (
        "openrouter",
        &[("OPENROUTER_BASE_URL", Url("/api/v1")), ("OPENROUTER_API_BASE", Url("/api/v1"))],
    ),
    ("cohere", &[("CO_API_URL", Url(""))]),
    (
        "mistral",
        &[
            ("MISTRAL_ENDPOINT", Url("")),
            ("MISTRAL_BASE_URL", Url("/v1")),
            ("MISTRAL_API_BASE", Url("/v1")),
        ],
    ),
    ("ollama", &[("OLLAMA_HOST", Url("")), ("OLLAMA_API_BASE", Url(""))]),
    ("tgi", &[("HF_INFERENCE_ENDPOINT", Url(""))]),
    ("tei", &[("HF_INFERENCE_ENDPOINT", Url(""))]),
    ("qdrant", &[("QDRANT_URL", Url(""))]),
    ("chroma", &[("CHROMA_HOST", Host), ("CHROMA_PORT", Port), ("CHROMA_URL", Url(""))]),
    ("pinecone", &[("PINECONE_CONTROLLER_HOST", Url(""))]),
    ("weaviate", &[("WEAVIATE_URL", Url(""))]),
    ("milvus", &[("MILVUS_URI", Url(""))]),
    ("elasticsearch", &[("ELASTICSEARCH_URL", Url(""))]),
    ("opensearch", &[("OPENSEARCH_URL", Url(""))]),
    ("redis", &[("REDIS_URL", Url("")), ("REDIS_HOST", Host), ("REDIS_PORT", Port)]),
    ("postgres", &[("PGHOST", Host), ("PGPORT", Port)]),
];

/// What an OpenAI dependency whose name begins with `embed` is called besides.
const EMBEDDINGS: &[(&str, Form)] =
    &[("OPENAI_EMBEDDINGS_BASE_URL", Url("/v1")), ("EMBEDDINGS_BASE_URL", Url("/v1"))];

/// Sets the names that clients of a dependency's kind read.
pub(super) fn well_known(
    dependency: &Address<'_>,
    place: &Place,
    environment: &Environment,
    variables: &mut Variables,
) {
    let mut names: Vec<(&str, Form)> = Vec::new();
    if dependency.kind == "openai" && dependency.name.starts_with("embed") {
        names.extend(EMBEDDINGS);
    }
    let known = KNOWN.iter().find(|(kind, _)| *kind == dependency.kind);
    names.extend(known.into_iter().flat_map(|(_, names)| *names));
    // libpq prefers it to PGHOST.
    if dependency.kind == "postgres" && environment.contains_key("PGHOSTADDR") {
        names.push(("PGHOSTADDR", Host));
    }
    // Behind a prefix host and port alone would lead elsewhere.
    names.retain(|(_, form)| place.prefix.is_empty() || matches!(form, Url(_)));
    for (name, form) in names {
        let value = match form {
            Url(path) => format!("{}{path}", url(dependency.kind, dependency.tls, place)),
            Host => place.host.clone(),
            Port => place.port.to_string(),
        };
        variables.set(Variable::new(name, value));
    }
}

/// The URL of a listener.
pub(super) fn url(kind: &str, tls: bool, place: &Place) -> String {
    format!("{}://{place}", scheme(kind, tls))
}

pub(super) fn scheme(kind: &str, tls: bool) -> &'static str {
    match (kind, tls) {
        ("postgres", _) => "postgresql",
        ("redis", false) => "redis",
        ("redis", true) => "rediss",
        ("tcp", _) => "tcp",
        (_, false) => "http",
        (_, true) => "https",
    }
}

#[cfg(test)]
mod tests {
    use super::super::Wiring;
    use super::super::tests::{address, values};
    use crate::dialect::KINDS;

    #[test]
    fn each_kind_gets_the_form_its_clients_want() {
        let kinds = ["anthropic", "gemini", "ollama", "bedrock", "milvus", "postgres"];
        let dependencies =
            kinds.iter().zip(1..).map(|(kind, port)| address(kind, kind, port)).collect();
        let values =
            values(&Wiring { dependencies, ..Wiring::default() }, &[("PGHOSTADDR", "::1")]);
        for (name, value) in [
            ("ANTHROPIC_BASE_URL", "http://127.0.0.1:1"),
            ("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:2"),
            ("OLLAMA_HOST", "http://127.0.0.1:3"),
            ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "http://127.0.0.1:4"),
            ("MILVUS_URI", "http://127.0.0.1:5"),
            ("BROWNOUT_POSTGRES_URL", "postgresql://127.0.0.1:6"),
            ("PGHOST", "127.0.0.1"),
            ("PGPORT", "6"),
            ("PGHOSTADDR", "127.0.0.1"),
        ] {
            assert_eq!(values[name], value, "{name}");
        }
        assert!(!values.contains_key("OPENAI_BASE_URL"), "only what the file has");
        assert!(!values.contains_key("DATABASE_URL"), "nobody knows its user");
    }

    #[test]
    fn no_kind_is_forgotten() {
        // No client of these reads a name of its own.
        let plain = ["auto", "grpc", "http", "mcp", "tcp"];
        for kind in KINDS.iter().filter(|kind| !plain.contains(kind)) {
            assert!(super::KNOWN.iter().any(|(known, _)| known == kind), "{kind}");
        }
    }
}
