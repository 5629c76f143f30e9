//! `POST /v1/embeddings`: vectors as numbers or base64, for texts or token numbers.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;

use super::request::Embeddings;
use super::{Model, Refusal, Reply, reply};
use crate::sim::{embedding, pause, tokens};

const MOST_INPUTS: usize = 2048;
const MOST_TOKENS: usize = 8192;
const MOST_DIMENSIONS: u64 = 65_536;

/// One input, as text or in token numbers of the client's vocabulary.
#[derive(Debug, PartialEq)]
enum Input {
    Text(String),
    Tokens(Vec<u64>),
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Entry>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Entry {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Float(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

pub(super) async fn answer(model: &Arc<Model>, request: Embeddings) -> Reply {
    model.check_model(&request.model)?;
    let inputs = inputs(request.input.as_ref())?;
    let as_base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let message =
                format!("Invalid value: '{other}'. Supported values are: 'float' and 'base64'.");
            return Err(Refusal::bad_param("encoding_format", message));
        }
    };
    let dimensions = match request.dimensions {
        None => model.settings.embedding_dimensions,
        Some(wanted @ 1..=MOST_DIMENSIONS) => wanted as usize,
        Some(_) => return Err(Refusal::bad_param("dimensions", "Invalid value for 'dimensions'.")),
    };

    let slot = model.enter().await?;
    let done = model.clock.now() + model.settings.latency;
    let counted = inputs.iter().map(Input::tokens).sum();
    let data = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let vector = input.embed(dimensions);
            let embedding = if as_base64 { encode(&vector) } else { Vector::Float(vector) };
            Entry { object: "embedding", index, embedding }
        })
        .collect();
    let usage = Usage { prompt_tokens: counted, total_tokens: counted };
    let response = reply(&List { object: "list", data, model: &request.model, usage });
    pause(&*model.clock, done).await;
    drop(slot);
    Ok(response)
}

/// Little-endian 32-bit floats in base64, as the official clients ask for it.
fn encode(vector: &[f32]) -> Vector {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    Vector::Base64(STANDARD.encode(bytes))
}

/// A text, texts, token numbers, or lists of them.
fn inputs(given: Option<&Value>) -> Result<Vec<Input>, Refusal> {
    let inputs = match given {
        None | Some(Value::Null) => return Err(Refusal::missing("input")),
        Some(Value::String(text)) => vec![Input::Text(text.clone())],
        Some(Value::Array(list)) if list.iter().all(Value::is_u64) => {
            vec![Input::from_numbers(list)?]
        }
        Some(Value::Array(list)) => list.iter().map(Input::from_item).collect::<Result<_, _>>()?,
        Some(_) => return Err(Refusal::bad_input()),
    };
    if inputs.is_empty() || inputs.len() > MOST_INPUTS || inputs.iter().any(Input::is_empty) {
        return Err(Refusal::bad_input());
    }
    if let Some(long) = inputs.iter().map(Input::tokens).find(|tokens| *tokens > MOST_TOKENS) {
        let message = format!(
            "This model's maximum context length is {MOST_TOKENS} tokens, however you requested \
             {long} tokens ({long} in your prompt; 0 for the completion). Please reduce your \
             prompt; or completion length."
        );
        return Err(Refusal::bad_request(message));
    }
    Ok(inputs)
}

impl Input {
    fn from_item(item: &Value) -> Result<Self, Refusal> {
        match item {
            Value::String(text) => Ok(Self::Text(text.clone())),
            Value::Array(numbers) => Self::from_numbers(numbers),
            _ => Err(Refusal::bad_input()),
        }
    }

    fn from_numbers(numbers: &[Value]) -> Result<Self, Refusal> {
        let tokens: Option<Vec<u64>> = numbers.iter().map(Value::as_u64).collect();
        tokens.map(Self::Tokens).ok_or_else(Refusal::bad_input)
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Tokens(tokens) => tokens.is_empty(),
        }
    }

    fn tokens(&self) -> usize {
        match self {
            Self::Text(text) => tokens::count(text),
            Self::Tokens(tokens) => tokens.len(),
        }
    }

    fn embed(&self, dimensions: usize) -> Vec<f32> {
        match self {
            Self::Text(text) => embedding::embed(text, dimensions),
            Self::Tokens(tokens) => embedding::embed_tokens(tokens, dimensions),
        }
    }
}
