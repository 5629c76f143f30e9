//! `kind: auto`: finds out for each request whose format it is, by the upstream's host, the path, the
//! headers, and the beginning of the body, in this order; the first that decides wins. What nobody
//! knows is plain HTTP.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, Method, Uri};

use super::plain::Plain;
use super::{Answer, Asking, Dialect, Failure, Outline, Quota, Reading, by_kind};
use crate::exchange::{Event, Facts, Operation};

/// The wire format of `kind: auto`, where it is not known yet which one it is: plain HTTP.
#[derive(Debug)]
pub(crate) struct Auto;

impl Dialect for Auto {
    fn name(&self) -> &'static str {
        "auto"
    }

    fn of_request(&self, asking: &Asking<'_>) -> Option<&'static dyn Dialect> {
        let kind = kind(asking).unwrap_or("http");
        by_kind(kind).or_else(|| by_kind("http"))
    }

    fn facts(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Facts {
        Plain.facts(method, uri, headers, body)
    }

    fn read_event(&self, operation: Operation, event: &Event) -> Reading {
        Plain.read_event(operation, event)
    }

    fn read_message(&self, operation: Operation, body: &[u8]) -> Reading {
        Plain.read_message(operation, body)
    }

    fn outline(&self, operation: Operation, payload: &[u8]) -> Outline {
        Plain.outline(operation, payload)
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        Plain.failure(failure)
    }

    fn quota_headers(&self, quota: &Quota) -> Vec<(&'static str, String)> {
        Plain.quota_headers(quota)
    }

    fn shorten(
        &self,
        operation: Operation,
        body: &[u8],
        share: f64,
        reason: &str,
    ) -> Option<Bytes> {
        Plain.shorten(operation, body, share, reason)
    }

    fn inband_error(&self, message: &str) -> Option<Event> {
        Plain.inband_error(message)
    }
}

/// Hosts by their ends, and whose they are.
const HOSTS: &[(&str, &str)] = &[
    ("api.openai.com", "openai"),
    (".openai.azure.com", "azure-openai"),
    (".cognitiveservices.azure.com", "azure-openai"),
    (".services.ai.azure.com", "azure-openai"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "gemini"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("api.mistral.ai", "mistral"),
    ("openrouter.ai", "openrouter"),
    ("api.groq.com", "openai"),
    ("api.together.xyz", "openai"),
    ("api.fireworks.ai", "openai"),
    ("api.deepseek.com", "openai"),
    ("api.x.ai", "openai"),
    ("api.perplexity.ai", "openai"),
    ("api.voyageai.com", "openai"),
    ("api.jina.ai", "openai"),
    (".cloud.qdrant.io", "qdrant"),
    (".pinecone.io", "pinecone"),
    (".weaviate.cloud", "weaviate"),
    ("api.trychroma.com", "chroma"),
    (".elastic-cloud.com", "elasticsearch"),
];

/// Beginnings of `user-agent`.
const AGENTS: &[(&str, &str)] = &[
    ("anthropic/", "anthropic"),
    ("asyncanthropic/", "anthropic"),
    ("asyncazureopenai/", "azure-openai"),
    ("azureopenai/", "azure-openai"),
    ("chroma python client", "chroma"),
    ("cohere/", "cohere"),
    ("mistral-client", "mistral"),
    ("ollama-", "ollama"),
    ("opensearch-py/", "opensearch"),
    ("speakeasy-sdk/python", "mistral"),
];

/// Paths by their ends: a base path may stand before them.
const ENDS: &[(&str, &str)] = &[
    ("/v1/messages", "anthropic"),
    ("/v1/messages/count_tokens", "anthropic"),
    ("/api/chat", "ollama"),
    ("/api/generate", "ollama"),
    ("/api/embed", "ollama"),
    ("/api/embeddings", "ollama"),
    ("/v2/chat", "cohere"),
    ("/v2/embed", "cohere"),
    ("/v2/rerank", "cohere"),
    ("/chat/completions", "openai"),
    ("/v1/completions", "openai"),
    ("/v1/embeddings", "openai"),
    ("/v1/responses", "openai"),
    ("/v1/realtime", "openai"),
    ("/v1/models", "openai"),
    ("/fim/completions", "mistral"),
    ("/generate", "tgi"),
    ("/generate_stream", "tgi"),
    ("/completion", "llama-cpp"),
    ("/collections", "qdrant"),
    ("/v1/graphql", "weaviate"),
    ("/v1/batch/objects", "weaviate"),
    ("/_search", "elasticsearch"),
    ("/_msearch", "elasticsearch"),
    ("/_bulk", "elasticsearch"),
    ("/describe_index_stats", "pinecone"),
    ("/vectors/upsert", "pinecone"),
    ("/mcp", "mcp"),
];

/// Parts of paths.
const PARTS: &[(&str, &str)] = &[
    ("/publishers/anthropic/models/", "anthropic-vertex"),
    ("/publishers/google/models/", "vertex"),
    ("/openai/deployments/", "azure-openai"),
    ("/api/v2/tenants/", "chroma"),
    ("/v2/vectordb/", "milvus"),
    ("/v1/objects", "weaviate"),
    ("/qdrant.", "qdrant"),
    ("/milvus.proto.milvus.", "milvus"),
    ("/weaviate.v1.", "weaviate"),
    ("/vectorservice/", "pinecone"),
];

/// The kind of a request, None where nothing tells.
fn kind(asking: &Asking<'_>) -> Option<&'static str> {
    let path = asking.uri.path().trim_end_matches('/').to_ascii_lowercase();
    by_host(asking.host, &path)
        .or_else(|| by_header(asking.headers))
        .or_else(|| by_path(&path, asking.uri.query().unwrap_or_default()))
        .or_else(|| by_body(asking.body))
        .or_else(|| called_by_grpc(asking.headers))
}

fn by_host(host: &str, path: &str) -> Option<&'static str> {
    let host = host.to_ascii_lowercase();
    let host = host.rsplit_once(':').map_or(host.as_str(), |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { &host }
    });
    let found = HOSTS.iter().find(|(end, _)| match end.strip_prefix('.') {
        Some(_) => host.ends_with(end),
        None => host == *end,
    });
    if let Some((_, kind)) = found {
        return Some(kind);
    }
    if host.starts_with("bedrock-runtime") && host.ends_with(".amazonaws.com") {
        return Some("bedrock");
    }
    if host.ends_with("aiplatform.googleapis.com") {
        let claude = path.contains("/publishers/anthropic/");
        return Some(if claude { "anthropic-vertex" } else { "vertex" });
    }
    None
}

/// Headers that one provider's clients alone send.
fn by_header(headers: &HeaderMap) -> Option<&'static str> {
    let named = [
        ("anthropic-version", "anthropic"),
        ("mcp-protocol-version", "mcp"),
        ("mcp-session-id", "mcp"),
        ("mcp-method", "mcp"),
        ("x-pinecone-api-version", "pinecone"),
        ("x-goog-api-key", "gemini"),
        ("x-chroma-token", "chroma"),
        ("x-elastic-client-meta", "elasticsearch"),
        ("x-weaviate-cluster-url", "weaviate"),
    ];
    if let Some((_, kind)) = named.into_iter().find(|(name, _)| headers.contains_key(*name)) {
        return Some(kind);
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if text(AUTHORIZATION).starts_with("AWS4-HMAC-SHA256")
        && text(AUTHORIZATION).contains("/bedrock/aws4_request")
    {
        return Some("bedrock");
    }
    let agent = text(USER_AGENT).to_ascii_lowercase();
    let found = AGENTS.iter().find(|(start, _)| agent.starts_with(start));
    found.map(|(_, kind)| *kind)
}

fn by_path(path: &str, query: &str) -> Option<&'static str> {
    if let Some((_, kind)) = PARTS.iter().find(|(part, _)| path.contains(part)) {
        return Some(kind);
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    if path.contains("/model/")
        && matches!(last, "converse" | "converse-stream" | "invoke" | "invoke-with-response-stream")
    {
        return Some("bedrock");
    }
    if path.contains("/models/") {
        let call = last.split_once(':').map(|(_, call)| call).unwrap_or_default();
        if call.ends_with("generatecontent")
            || call.ends_with("embedcontent")
            || call == "counttokens"
        {
            return Some("gemini");
        }
        if call.ends_with("embedcontents") {
            return Some("gemini");
        }
    }
    if path.contains("/openai/") && query.split('&').any(|pair| pair.starts_with("api-version=")) {
        return Some("azure-openai");
    }
    if path.contains("/collections/") && !path.contains("/api/") {
        return Some("qdrant");
    }
    ENDS.iter().find(|(end, _)| path.ends_with(end)).map(|(_, kind)| *kind)
}

fn by_body(body: &[u8]) -> Option<&'static str> {
    let start = &body[..body.len().min(4096)];
    let holds = |word: &[u8]| start.windows(word.len()).any(|window| window == word);
    holds(b"\"jsonrpc\"").then_some("mcp")
}

fn called_by_grpc(headers: &HeaderMap) -> Option<&'static str> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if text(CONTENT_TYPE).starts_with("application/grpc") {
        return Some("grpc");
    }
    // Opening a server's stream of an older MCP.
    let both = text(ACCEPT);
    let asks = both.contains("application/json") && both.contains("text/event-stream");
    asks.then_some("mcp")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(
        host: &str,
        path: &str,
        headers: &[(&'static str, &'static str)],
        body: &str,
    ) -> &'static str {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let uri = Uri::try_from(path).unwrap();
        let method = &Method::POST;
        let asking = Asking { host, method, uri: &uri, headers: &map, body: body.as_bytes() };
        kind(&asking).unwrap_or("http")
    }

    #[test]
    fn hosts_decide_first() {
        let by = |host| found(host, "/v1/chat/completions", &[], "");
        assert_eq!(by("api.openai.com"), "openai");
        assert_eq!(by("mine.openai.azure.com:443"), "azure-openai");
        assert_eq!(by("api.mistral.ai"), "mistral");
        assert_eq!(by("openrouter.ai"), "openrouter");
        assert_eq!(by("bedrock-runtime.eu-west-1.amazonaws.com"), "bedrock");
        assert_eq!(by("127.0.0.1:8000"), "openai");
        assert_eq!(by("evil-api.openai.com.example"), "openai", "by its path, not its host");
        assert_eq!(found("xapi.openai.com", "/x", &[], ""), "http");
        let vertex = "europe-west1-aiplatform.googleapis.com";
        assert_eq!(
            found(vertex, "/v1/x/publishers/anthropic/models/c:rawPredict", &[], ""),
            "anthropic-vertex"
        );
    }

    #[test]
    fn then_headers_then_paths_then_bodies() {
        let by = |path, headers: &[_], body| found("127.0.0.1:1", path, headers, body);
        assert_eq!(by("/v1/messages", &[("anthropic-version", "2023-06-01")], ""), "anthropic");
        assert_eq!(by("/x", &[("mcp-session-id", "1")], ""), "mcp");
        assert_eq!(
            by(
                "/x",
                &[("authorization", "AWS4-HMAC-SHA256 Credential=a/1/r/bedrock/aws4_request, x")],
                ""
            ),
            "bedrock"
        );
        assert_eq!(
            by("/v1/chat/completions", &[("user-agent", "AzureOpenAI/Python 3")], ""),
            "azure-openai"
        );
        for (path, kind) in [
            ("/proxy/v1/chat/completions", "openai"),
            ("/v1/responses", "openai"),
            ("/openai/responses?api-version=1", "azure-openai"),
            ("/openai/deployments/x/embeddings?api-version=1", "azure-openai"),
            ("/model/anthropic.claude-v1%3A0/converse-stream", "bedrock"),
            ("/v1beta/models/gemini-pro:streamGenerateContent?alt=sse", "gemini"),
            ("/api/chat", "ollama"),
            ("/v2/chat", "cohere"),
            ("/generate_stream", "tgi"),
            ("/completion", "llama-cpp"),
            ("/collections/docs/points/search", "qdrant"),
            ("/api/v2/tenants/t/databases/d/collections/c/query", "chroma"),
            ("/v2/vectordb/entities/search", "milvus"),
            ("/index/_search", "elasticsearch"),
            ("/v1/graphql", "weaviate"),
            ("/mcp", "mcp"),
            ("/health", "http"),
        ] {
            assert_eq!(by(path, &[], ""), kind, "{path}");
        }
        assert_eq!(by("/rpc", &[], r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#), "mcp");
        assert_eq!(by("/x.Y/Z", &[("content-type", "application/grpc")], ""), "grpc");
    }

    #[test]
    fn what_is_found_is_a_dialect() {
        let method = &Method::POST;
        let headers = &HeaderMap::new();
        for path in ["/v1/chat/completions", "/index/_search", "/what"] {
            let uri = &Uri::from_static(path);
            let asking = Asking { host: "h", method, uri, headers, body: b"" };
            assert!(Auto.of_request(&asking).is_some(), "{path}");
        }
    }
}
