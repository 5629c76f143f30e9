//! What retrieval-augmented chat says to its dependencies, and reads from them. No I/O.

use serde_json::{Value, json};

const INSTRUCTIONS: &str =
    "You are a helpful support assistant. Answer from the context alone, and quote it.";

/// Documents given to the model.
const DOCUMENTS: usize = 4;

/// The request for the question's vector.
pub(super) fn embedding_request(question: &str) -> Value {
    json!({ "model": "text-embedding-3-small", "input": question, "encoding_format": "float" })
}

/// The vector in an answer.
pub(super) fn vector(answer: &Value) -> Option<&Value> {
    answer.pointer("/data/0/embedding").filter(|vector| vector.is_array())
}

/// The request for the nearest documents.
pub(super) fn search_request(vector: &Value) -> Value {
    json!({ "query": vector, "limit": DOCUMENTS, "with_payload": true })
}

/// The documents in an answer: each with title, text and score.
pub(super) fn documents(answer: &Value) -> Option<Vec<Value>> {
    let points = answer.pointer("/result/points")?.as_array()?;
    Some(
        points
            .iter()
            .map(|point| {
                json!({
                    "id": point["id"],
                    "title": point["payload"]["title"],
                    "text": point["payload"]["text"],
                    "score": point["score"],
                })
            })
            .collect(),
    )
}

/// The request for an answer.
pub(super) fn chat_request(question: &str, documents: &[Value]) -> Value {
    let context: Vec<String> = documents
        .iter()
        .enumerate()
        .map(|(index, document)| {
            let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
            format!("[{}] {}\n{}", index + 1, text("title"), text("text"))
        })
        .collect();
    let asked = format!("Context:\n{}\n\nQuestion: {question}", context.join("\n\n"));
    json!({
        "model": "gpt-4o-mini",
        "messages": [
            { "role": "system", "content": INSTRUCTIONS },
            { "role": "user", "content": asked },
        ],
        "stream": true,
        "temperature": 0,
    })
}

/// The same request, to be gone on with after what was already said.
pub(super) fn continuation(request: &Value, said: &str) -> Value {
    let mut request = request.clone();
    if let Some(messages) = request["messages"].as_array_mut() {
        messages.push(json!({ "role": "assistant", "content": said }));
        messages.push(json!({
            "role": "user",
            "content": "Your answer was cut off. Go on exactly where it stopped.",
        }));
    }
    request
}

/// What the user is shown of the documents.
pub(super) fn sources(documents: &[Value]) -> Vec<Value> {
    documents
        .iter()
        .map(|document| {
            json!({ "id": document["id"], "title": document["title"], "score": document["score"] })
        })
        .collect()
}

/// An answer without the model: what the documents themselves say.
pub(super) fn fallback(documents: &[Value]) -> String {
    if documents.is_empty() {
        return "I can't look this up right now. Please try again in a moment.".to_owned();
    }
    let quotes: Vec<String> = documents
        .iter()
        .map(|document| {
            let text = |key: &str| document[key].as_str().unwrap_or_default();
            format!("{}: {}", text("title"), text("text"))
        })
        .collect();
    format!(
        "I can't reach the model right now, but here is what the sources say.\n\n{}",
        quotes.join("\n\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fallback_says_what_the_documents_say() {
        let found = json!({ "result": { "points": [
            { "id": 3, "score": 0.9, "payload": { "title": "Refunds", "text": "Five days." } },
        ] } });
        let documents = documents(&found).unwrap();
        let text = fallback(&documents);
        assert!(text.ends_with("Refunds: Five days."), "{text}");
        assert!(fallback(&[]).contains("try again"));
        assert_eq!(sources(&documents)[0], json!({ "id": 3, "title": "Refunds", "score": 0.9 }));
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        assert_eq!(documents(&json!({ "status": "ok" })), None);
        assert_eq!(vector(&json!({ "data": [{ "embedding": "AAAA" }] })), None);
    }
}
