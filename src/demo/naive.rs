//! The app as it was first written, bug and all: every layer retries at once, nobody waits as
//! long as it is told to, and a stream that just stops counts as finished.

use axum::http::HeaderMap;
use serde_json::Value;

use super::dependency::{Dependencies, Said, Stream, Trouble};
use super::rag;
use super::reply::Reply;

/// Tries of the whole conversation. Each of its calls has [`CALL_TRIES`] of its own.
const TRIES: u32 = 3;
const CALL_TRIES: u32 = 3;

pub(super) async fn answer(
    dependencies: &Dependencies,
    question: &str,
    carried: &HeaderMap,
    reply: &Reply,
) {
    let mut reason = String::new();
    for _ in 0..TRIES {
        match attempt(dependencies, question, carried, reply).await {
            Ok(()) => return,
            Err(trouble) => reason = trouble.to_string(),
        }
    }
    reply.fail(&reason).await;
}

async fn attempt(
    dependencies: &Dependencies,
    question: &str,
    carried: &HeaderMap,
    reply: &Reply,
) -> Result<(), Trouble> {
    let request = rag::embedding_request(question);
    let embedded = insist(|attempt| dependencies.embed(&request, carried, attempt)).await?;
    let vector = rag::vector(&embedded).ok_or(Trouble::Garbled { dependency: "embeddings" })?;

    let request = rag::search_request(vector);
    let found = insist(|attempt| dependencies.search(&request, carried, attempt)).await?;
    let documents = rag::documents(&found).ok_or(Trouble::Garbled { dependency: "vectors" })?;

    let request = rag::chat_request(question, &documents);
    let stream = insist(|attempt| dependencies.ask(&request, carried, attempt)).await?;
    pass_on(stream, reply, &rag::sources(&documents)).await;
    Ok(())
}

/// Tries again at once.
async fn insist<T, F: Future<Output = Result<T, Trouble>>>(
    call: impl Fn(u32) -> F,
) -> Result<T, Trouble> {
    let mut attempt = 0;
    loop {
        match call(attempt).await {
            Err(trouble) if trouble.may_pass() && attempt + 1 < CALL_TRIES => attempt += 1,
            result => return result,
        }
    }
}

/// Hands on what comes and calls it done when nothing more comes, for whatever reason.
async fn pass_on(mut stream: Stream, reply: &Reply, sources: &[Value]) {
    while let Ok(Some(said)) = stream.next().await {
        match said {
            Said::Text(text) => reply.delta(&text).await,
            Said::Done | Said::Error(_) => break,
            Said::Finish(_) => {}
        }
    }
    reply.done(sources, false).await;
}
