//! `POST /v1/completions`, the older way to ask.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Bytes;
use serde_json::{Value, json};

use super::chat::{check_shape, cut, length, usage};
use super::request::Completion;
use super::{CREATED, Model, Refusal, Reply, reply, stream};
use crate::sim::pause;
use crate::sim::text::{self, Prompt};
use crate::sim::tokens;

/// The most tokens where the request does not say, as the real endpoint has it.
const USUAL: usize = 16;

pub(super) async fn answer(model: &Arc<Model>, mut request: Completion) -> Reply {
    model.check_model(&request.model)?;
    check_shape(&request.shape)?;
    let asked = request.text();
    if asked.is_empty() {
        return Err(Refusal::missing("prompt"));
    }
    request.shape.allow_at_most(USUAL);
    let prompt = Prompt::from_texts(&[], &asked);
    let mut dice = prompt.dice(&model.dice);
    let length = length(model, &request.shape, &mut dice.fork("length"));
    let (pieces, finish) = cut(&text::answer(&prompt, &mut dice, length), &request.shape);
    let usage = usage(tokens::count(&asked), pieces.len());
    let id = format!("cmpl-{}", &model.id_of("completion", &asked)[..24]);
    let whole = |choices: Value| {
        json!({
            "id": id, "object": "text_completion", "created": CREATED, "model": request.model,
            "choices": choices,
        })
    };
    let choice = |text: &str, finish: Option<&str>| json!([{ "text": text, "index": 0, "logprobs": null, "finish_reason": finish }]);

    let slot = model.enter().await?;
    let first = model.clock.now() + model.settings.time_to_first_token;
    let period = model.token_period();
    if !request.shape.stream() {
        pause(&*model.clock, first + period * pieces.len().saturating_sub(1) as u32).await;
        let mut body = whole(choice(&pieces.concat(), Some(finish)));
        body["usage"] = usage;
        return Ok(reply(&body));
    }
    let mut events = VecDeque::with_capacity(pieces.len() + 3);
    let mut due = first;
    for (index, piece) in pieces.iter().enumerate() {
        due = first + period * index as u32;
        events.push_back((due, event(&whole(choice(piece, None)))));
    }
    events.push_back((due, event(&whole(choice("", Some(finish))))));
    if request.shape.include_usage() {
        let mut last = whole(json!([]));
        last["usage"] = usage;
        events.push_back((due, event(&last)));
    }
    events.push_back((due, Bytes::from_static(b"data: [DONE]\n\n")));
    pause(&*model.clock, first).await;
    Ok(stream::respond(Arc::clone(&model.clock), events, slot))
}

fn event(body: &Value) -> Bytes {
    Bytes::from(format!("data: {body}\n\n"))
}
