//! `POST /v1/chat/completions`: text, JSON or a tool call, whole or as a stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use serde_json::{Value, json};

use super::request::{Chat, Function, Shape};
use super::{CREATED, Model, Refusal, Reply, reply, stream};
use crate::dice::Dice;
use crate::sim::pause;
use crate::sim::text::{self, Prompt};
use crate::sim::{structured, tokens, words};

/// A prompt may be this long.
const CONTEXT: usize = 131_072;

/// What the model says.
#[derive(Debug)]
struct Answer {
    id: String,
    model: String,
    said: Said,
    finish: &'static str,
    prompt_tokens: usize,
}

#[derive(Debug)]
enum Said {
    Text(Vec<String>),
    Call { id: String, name: String, arguments: Vec<String> },
}

pub(super) async fn answer(model: &Arc<Model>, request: Chat) -> Reply {
    let answer = compose(model, &request)?;
    let slot = model.enter().await?;
    let first = model.clock.now() + model.settings.time_to_first_token;
    if request.shape.stream() {
        // A real provider sends the head when the first token is there.
        pause(&*model.clock, first).await;
        let events = answer.events(&request.shape, first, model.token_period());
        return Ok(stream::respond(Arc::clone(&model.clock), events, slot));
    }
    let between = answer.said.pieces().len().saturating_sub(1) as u32;
    pause(&*model.clock, first + model.token_period() * between).await;
    Ok(reply(&answer.message()))
}

/// Decides the whole answer; when its parts are sent is another matter.
fn compose(model: &Model, request: &Chat) -> Result<Answer, Refusal> {
    check(model, request)?;
    let texts: Vec<String> = request.messages.iter().map(super::request::Message::text).collect();
    let prompt_tokens = texts.iter().map(|text| tokens::count(text) + 4).sum::<usize>() + 3;
    if prompt_tokens > CONTEXT {
        return Err(Refusal::too_long(CONTEXT, prompt_tokens, "messages"));
    }
    let prompt = prompt(request, &texts);
    let mut dice = prompt.dice(&model.dice);
    let (said, finish) = match wanted_tool(request, &prompt) {
        Some(function) => call(function, &prompt, &mut dice),
        None => {
            let text = write(model, request, &prompt, &mut dice);
            let (pieces, finish) = cut(&text, &request.shape);
            (Said::Text(pieces), finish)
        }
    };
    let content = format!("{}\n{}\n{}", request.model, prompt.context, prompt.question);
    Ok(Answer {
        id: format!("chatcmpl-{}", &model.id_of("chat", &content)[..24]),
        model: request.model.clone(),
        said,
        finish,
        prompt_tokens,
    })
}

fn check(model: &Model, request: &Chat) -> Result<(), Refusal> {
    model.check_model(&request.model)?;
    if request.messages.is_empty() {
        return Err(Refusal::missing("messages"));
    }
    check_shape(&request.shape)
}

pub(super) fn check_shape(shape: &Shape) -> Result<(), Refusal> {
    if shape.n.is_some_and(|n| n != 1) {
        return Err(Refusal::bad_param("n", "Only n = 1 is simulated."));
    }
    if shape.max_tokens() == Some(0) {
        return Err(Refusal::bad_param("max_tokens", "Invalid value: '0'. Expected at least 1."));
    }
    Ok(())
}

/// The last words of the user ask; all else is context.
fn prompt(request: &Chat, texts: &[String]) -> Prompt {
    let asked = request.messages.iter().rposition(|message| message.role == "user");
    let asked = asked.unwrap_or(texts.len() - 1);
    let earlier: Vec<&str> = texts
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != asked)
        .map(|(_, text)| text.as_str())
        .collect();
    Prompt::from_texts(&earlier, &texts[asked])
}

/// The tool to call: the one that is demanded, or one that the question speaks of.
fn wanted_tool<'a>(request: &'a Chat, prompt: &Prompt) -> Option<&'a Function> {
    let tools: Vec<&Function> =
        request.tools.iter().flatten().filter_map(|tool| tool.function.as_ref()).collect();
    let demanded = match &request.tool_choice {
        Some(Value::String(choice)) if choice == "none" => return None,
        Some(Value::String(choice)) if choice == "required" => tools.first().copied(),
        Some(choice) => {
            let name = choice["function"]["name"].as_str();
            name.and_then(|name| tools.iter().copied().find(|tool| tool.name == name))
        }
        None => None,
    };
    // A model that has just got a tool's result answers with it.
    let has_result = request.messages.last().is_some_and(|message| message.role == "tool");
    demanded.or_else(|| tools.into_iter().find(|tool| !has_result && speaks_of(prompt, tool)))
}

fn speaks_of(prompt: &Prompt, tool: &Function) -> bool {
    let asked = words::keywords(&prompt.question);
    let said_of_tool = format!("{} {}", tool.name, tool.description.as_deref().unwrap_or(""));
    words::keywords(&said_of_tool)
        .iter()
        .any(|word| asked.iter().any(|asked| words::stem(asked) == words::stem(word)))
}

fn call(function: &Function, prompt: &Prompt, dice: &mut Dice) -> (Said, &'static str) {
    let schema = function.parameters.clone().unwrap_or_else(|| json!({ "type": "object" }));
    let arguments = structured::fill(&schema, prompt, dice).to_string();
    let said = Said::Call {
        id: format!("call_{:016x}{:08x}", dice.bits(), dice.bits() as u32),
        name: function.name.clone(),
        arguments: tokens::pieces(&arguments).into_iter().map(str::to_owned).collect(),
    };
    (said, "tool_calls")
}

fn write(model: &Model, request: &Chat, prompt: &Prompt, dice: &mut Dice) -> String {
    let format = request.response_format.as_ref();
    match format.and_then(|format| format["type"].as_str()) {
        Some("json_object") => structured::object(prompt, dice).to_string(),
        Some("json_schema") => {
            let schema = format.map_or(&Value::Null, |format| &format["json_schema"]["schema"]);
            structured::fill(schema, prompt, dice).to_string()
        }
        _ => text::answer(prompt, dice, length(model, &request.shape, &mut dice.fork("length"))),
    }
}

/// The tokens of an answer that nothing cuts short.
pub(super) fn length(model: &Model, shape: &Shape, dice: &mut Dice) -> usize {
    let usual = model.settings.answer_tokens;
    shape.exact_tokens().unwrap_or_else(|| dice.whole(usual.low, usual.high) as usize)
}

/// Applies stop words and the most tokens allowed.
pub(super) fn cut(text: &str, shape: &Shape) -> (Vec<String>, &'static str) {
    let stop = shape.stops().iter().filter(|stop| !stop.is_empty());
    let end = stop.filter_map(|stop| text.find(stop.as_str())).min().unwrap_or(text.len());
    let mut pieces: Vec<String> =
        tokens::pieces(&text[..end]).into_iter().map(str::to_owned).collect();
    let most = shape.max_tokens().unwrap_or(usize::MAX);
    let finish =
        if pieces.len() > most || shape.exact_tokens().is_some() { "length" } else { "stop" };
    pieces.truncate(most);
    (pieces, finish)
}

pub(super) fn usage(prompt: usize, completion: usize) -> Value {
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    })
}

impl Said {
    fn pieces(&self) -> &[String] {
        match self {
            Self::Text(pieces) | Self::Call { arguments: pieces, .. } => pieces,
        }
    }
}

impl Answer {
    fn usage(&self) -> Value {
        usage(self.prompt_tokens, self.said.pieces().len())
    }

    /// The answer as a whole.
    fn message(&self) -> Value {
        let text = self.said.pieces().concat();
        let mut message =
            json!({ "role": "assistant", "content": null, "refusal": null, "annotations": [] });
        match &self.said {
            Said::Text(_) => message["content"] = text.into(),
            Said::Call { id, name, .. } => {
                message["tool_calls"] = json!([{
                    "id": id, "type": "function",
                    "function": { "name": name, "arguments": text },
                }]);
            }
        }
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": CREATED,
            "model": self.model,
            "choices": [{
                "index": 0, "message": message, "logprobs": null, "finish_reason": self.finish,
            }],
            "usage": self.usage(),
            "service_tier": "default",
            "system_fingerprint": "fp_simulated",
        })
    }

    /// The answer as events, each with the time it is due.
    fn events(&self, shape: &Shape, first: Duration, period: Duration) -> VecDeque<stream::Due> {
        let chunks = Chunks::new(self, shape);
        let mut events = VecDeque::with_capacity(self.said.pieces().len() + 4);
        events.push_back((first, chunks.opening(&self.said)));
        let mut due = first;
        for (index, piece) in self.said.pieces().iter().enumerate() {
            due = first + period * index as u32;
            events.push_back((due, chunks.piece(&self.said, piece)));
        }
        events.push_back((due, chunks.chunk("{}", Some(self.finish))));
        if shape.include_usage() {
            events.push_back((due, chunks.usage(&self.usage())));
        }
        events.push_back((due, Bytes::from_static(b"data: [DONE]\n\n")));
        events
    }
}

/// Writes the events of one answer, which differ in little.
struct Chunks {
    /// All before `"choices"`.
    head: String,
    /// All after the choices.
    tail: &'static str,
    obfuscated: bool,
}

impl Chunks {
    fn new(answer: &Answer, shape: &Shape) -> Self {
        let head = format!(
            r#"data: {{"id":{},"object":"chat.completion.chunk","created":{CREATED},"model":{},"service_tier":"default","system_fingerprint":"fp_simulated","#,
            json!(answer.id),
            json!(answer.model),
        );
        let tail = if shape.include_usage() { r#","usage":null"# } else { "" };
        Self { head, tail, obfuscated: shape.obfuscated() }
    }

    fn opening(&self, said: &Said) -> Bytes {
        match said {
            Said::Text(_) => {
                self.chunk(r#"{"role":"assistant","content":"","refusal":null}"#, None)
            }
            Said::Call { id, name, .. } => {
                let delta = json!({ "role": "assistant", "content": null, "tool_calls": [{
                    "index": 0, "id": id, "type": "function",
                    "function": { "name": name, "arguments": "" },
                }], "refusal": null });
                self.chunk(&delta.to_string(), None)
            }
        }
    }

    fn piece(&self, said: &Said, piece: &str) -> Bytes {
        let piece = json!(piece);
        let delta = match said {
            Said::Text(_) => format!(r#"{{"content":{piece}}}"#),
            Said::Call { .. } => {
                format!(r#"{{"tool_calls":[{{"index":0,"function":{{"arguments":{piece}}}}}]}}"#)
            }
        };
        self.chunk(&delta, None)
    }

    fn chunk(&self, delta: &str, finish: Option<&str>) -> Bytes {
        let finish = json!(finish);
        let padding = if self.obfuscated { obfuscation(delta) } else { String::new() };
        Bytes::from(format!(
            r#"{}"choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]{}{padding}}}{}"#,
            self.head, self.tail, "\n\n",
        ))
    }

    fn usage(&self, usage: &Value) -> Bytes {
        let padding = if self.obfuscated { obfuscation("") } else { String::new() };
        Bytes::from(format!(r#"{}"choices":[],"usage":{usage}{padding}}}{}"#, self.head, "\n\n"))
    }
}

/// Padding that hides a token's length from whoever watches the wire.
fn obfuscation(delta: &str) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let wanted = 16 - delta.len() % 16;
    let mut dice = Dice::from_seed(crate::dice::hash_bytes(delta.as_bytes()));
    let padding: String =
        (0..wanted).map(|_| LETTERS[dice.whole(0, 31) as usize] as char).collect();
    format!(r#","obfuscation":"{padding}""#)
}
