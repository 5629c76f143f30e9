//! `workload`: the traffic against the app.

use std::path::Path;
use std::time::Duration;

use serde_json_path::JsonPath;

use super::{Lowering, Step, way};
use crate::config::diagnostic::{Mistake, nearest};
use crate::config::place::Place;
use crate::config::schema::{self, Named, Stream};
use crate::units::{Count, SpanRange};
use crate::workload::prompt::{PRESETS, read_jsonl};
use crate::workload::template::Renderer;
use crate::workload::{
    Answer, Arrivals, EndMark, Format, Plan, Prompt, Prompts, Sessions, Shape, Stage, Template,
};

/// A prompt file is read as a whole.
const LARGEST_FILE: u64 = 64 * 1024 * 1024;

impl Lowering<'_> {
    /// The plan, when it can be made, and `duration`.
    pub(super) fn workload(
        &mut self,
        workload: schema::Workload,
    ) -> (Option<Plan>, Option<Duration>) {
        let app = self.app(workload.app.as_deref());
        let request = self.request(workload.request, app.as_ref());
        let answer = self.answer(workload.answer.unwrap_or_default());
        let prompts = self.prompts(workload.prompts);
        let arrivals = self.arrivals(workload.arrival_rate, workload.users);
        let sessions = self.sessions(&workload.sessions.unwrap_or_default());
        for (key, span) in [
            ("duration", workload.duration),
            ("timeout", workload.timeout),
            ("first_token_timeout", workload.first_token_timeout),
        ] {
            if span.is_some_and(|span| span.0.is_zero()) {
                self.error(way!["workload", key], format!("`{key}` must be longer than nothing"));
            }
        }
        let timeout = workload.timeout.map_or(Duration::from_secs(60), |span| span.0);
        let first_token_timeout = workload.first_token_timeout.map(|span| span.0);
        if first_token_timeout.is_some_and(|first| first > timeout) {
            let place = self.place(way!["workload", "first_token_timeout"]);
            let text = "`first_token_timeout` is longer than `timeout`, so it never acts";
            self.found.warn(Mistake::at(place, text));
        }
        if workload.max_in_flight == Some(0) {
            self.error(way!["workload", "max_in_flight"], "`max_in_flight` must be above 0");
        }
        let good = workload.good.unwrap_or_default();
        let duration = workload.duration.map(|span| span.0);
        let (Some(app), Some(prompts), Some(arrivals)) = (app, prompts, arrivals) else {
            return (None, duration);
        };
        let max_in_flight = workload.max_in_flight.unwrap_or(1000);
        let plan = Plan {
            app,
            request,
            answer,
            prompts,
            arrivals,
            sessions,
            timeout,
            first_token_timeout,
            max_in_flight: usize::try_from(max_in_flight).unwrap_or(usize::MAX),
            good_ttft: good.ttft.map(|span| span.0),
            good_latency: good.latency.map(|span| span.0),
        };
        self.check_template(&plan);
        (Some(plan), duration)
    }

    /// Placeholders in the request that no prompt can fill.
    fn check_template(&mut self, plan: &Plan) {
        let unread = matches!(&plan.prompts, Prompts::List(list) if list.is_empty());
        let stand_in = || Prompt { text: "?".into(), fields: serde_json::Map::new() };
        let seen = match unread {
            true => &Plan { prompts: Prompts::List([stand_in()].into()), ..plan.clone() },
            false => plan,
        };
        let Err(bad) = Renderer::new(seen) else { return };
        // What a file that is not there would have to hold is not known.
        let of_prompt = |reason: &str| {
            reason.split('`').nth(1).is_some_and(|quoted| quoted.starts_with("${prompt."))
        };
        for one in bad.into_iter().filter(|one| !unread || !of_prompt(&one.reason)) {
            let steps = steps_of(&one.place);
            let mut path = vec![Step::Key("workload"), Step::Key("request")];
            path.extend(steps.iter().map(|step| match step.parse() {
                Ok(number) => Step::Item(number),
                Err(_) => Step::Key(step),
            }));
            let place = self.placeholder(&path, &one.reason);
            let reason = match self.is_secret(&path) {
                true => format!("what the environment gives does not fit `{}`", one.place),
                false => one.reason,
            };
            self.found.error(Mistake::at(place, reason));
        }
    }

    /// The place of the `${…}` that a reason quotes first, else of the whole value.
    fn placeholder(&self, path: &[Step<'_>], reason: &str) -> Place {
        let place = self.place(path);
        let quoted = reason.split('`').nth(1).filter(|quoted| quoted.starts_with("${"));
        let found = quoted
            .and_then(|quoted| self.sources.slice(place).find(quoted).map(|at| (at, quoted.len())));
        found.map_or(place, |(at, len)| self.sources.within(place, at, len))
    }

    fn app(&mut self, app: Option<&str>) -> Option<url::Url> {
        let path = way!["workload", "app"];
        let Some(app) = app else {
            if !self.absence_is_told(way!["workload"], "app") {
                let place = self.place(path);
                let mistake = Mistake::at(place, "`workload` does not say where the app is");
                self.found.error(mistake.label("write app: http://localhost:8000/chat"));
            }
            return None;
        };
        self.url(path, app, "http://localhost:8000/chat")
    }

    fn request(&mut self, request: Option<schema::Request>, app: Option<&url::Url>) -> Template {
        let request = request.unwrap_or_default();
        let at = |key: &'static str| ["workload", "request", key];
        let method = request.method.as_deref().and_then(|text| {
            let [a, b, c] = at("method");
            self.method(way![a, b, c], text)
        });
        let method = method.unwrap_or(http::Method::POST);
        if let Some(text) = &request.path
            && !text.starts_with(['/', '?'])
        {
            let [a, b, c] = at("path");
            let path = way![a, b, c];
            let shown = self.quoted(path, text);
            let mistake = Mistake::at(self.place(path), format!("the path {shown} is none"));
            self.found.error(mistake.label("a path begins with `/`"));
        }
        let headers = self.headers(request.headers.unwrap_or_default());
        let carries_body = !matches!(method, http::Method::GET | http::Method::HEAD);
        let body = match (request.body, app) {
            (Some(body), _) => Some(body),
            (None, Some(app)) if carries_body => {
                let mut whole = app.clone();
                if let Some(path) = &request.path {
                    whole.set_path(path);
                }
                Template::for_app(&whole).body
            }
            _ => None,
        };
        Template { method, path: request.path, headers, body }
    }

    fn headers(&mut self, headers: Named<String>) -> Vec<(http::HeaderName, String)> {
        let mut lowered = Vec::new();
        for (name, value) in headers.0 {
            let path = way!["workload", "request", "headers", &name];
            let Ok(parsed) = name.parse::<http::HeaderName>() else {
                let place = self.key_place(path);
                self.found.error(Mistake::at(place, format!("`{name}` is no header's name")));
                continue;
            };
            if http::HeaderValue::from_str(&value).is_err() {
                self.error(path, format!("the value of `{name}` cannot stand in a header"));
                continue;
            }
            let secret = super::super::mask::is_credential(&name);
            if secret && !self.is_secret(path) && !value.contains("${") {
                let place = self.key_place(path);
                let hint = format!("write {name}: ${{API_KEY}} and set it in the environment");
                let text = format!("`{name}` holds a credential in the file itself");
                self.found.warn(Mistake::at(place, text).hint(hint));
            }
            lowered.push((parsed, value));
        }
        lowered
    }

    fn answer(&mut self, answer: schema::Answer) -> Answer {
        let format = match answer.stream {
            None | Some(Stream::Auto) => Format::Auto,
            Some(Stream::Json) => Format::Json,
            Some(Stream::Ndjson) => Format::Ndjson,
            Some(Stream::Sse) => Format::Sse,
            Some(Stream::Text) => Format::Text,
        };
        let end = answer.end.and_then(|end| self.end_mark(end.trim()));
        Answer {
            format,
            text: answer.text.and_then(|text| self.json_path("text", &text)),
            end,
            error: answer.error.and_then(|text| self.json_path("error", &text)),
            fallback: answer.fallback.and_then(|text| self.json_path("fallback", &text)),
        }
    }

    fn end_mark(&mut self, end: &str) -> Option<EndMark> {
        if end == "none" {
            return Some(EndMark::None);
        }
        if let Some(event) = end.strip_prefix("event ") {
            return Some(EndMark::Event(event.trim().to_owned()));
        }
        if end.starts_with('$') {
            return self.json_path("end", end).map(EndMark::Json);
        }
        Some(EndMark::Text(end.to_owned()))
    }

    fn json_path(&mut self, key: &'static str, text: &str) -> Option<JsonPath> {
        let path = way!["workload", "answer", key];
        match JsonPath::parse(text.trim()) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                let shown = self.quoted(path, text);
                let reason = format!("{shown} is no JSONPath: {}", error.message());
                let mistake = Mistake::at(self.place(path), reason);
                self.found.error(mistake.label("write for example $.delta"));
                None
            }
        }
    }

    fn arrivals(
        &mut self,
        rate: Option<schema::ArrivalRate>,
        users: Option<u64>,
    ) -> Option<Arrivals> {
        let rate_path = way!["workload", "arrival_rate"];
        match (rate, users) {
            (Some(_), Some(_)) => {
                let place = self.key_place(way!["workload", "users"]);
                self.found.error(
                    Mistake::at(place, "`workload` has both `arrival_rate` and `users`")
                        .hint("arrival_rate: requests come whatever the app does (open model)")
                        .hint("users: each waits for its answer before it asks again (closed)")
                        .hint("for the number of distinct users, write sessions: { users: … }"),
                );
                None
            }
            (None, None) => {
                let refused = ["arrival_rate", "users"]
                    .iter()
                    .any(|key| self.absence_is_told(way!["workload"], key));
                if !refused && !self.was_refused(way!["workload"]) {
                    let place = self.key_place(way!["workload"]);
                    let text = "`workload` does not say how much traffic";
                    self.found.error(
                        Mistake::at(place, text).label("write arrival_rate: 5/s, or users: 20"),
                    );
                }
                None
            }
            (None, Some(0)) => {
                self.error(way!["workload", "users"], "`users` must be above 0");
                None
            }
            (None, Some(users)) => Some(Arrivals::Users { users }),
            (Some(schema::ArrivalRate(options)), None) => {
                let shape = match options.shape {
                    None | Some(schema::Shape::Poisson) => Shape::Poisson,
                    Some(schema::Shape::Constant) => Shape::Constant,
                };
                let stages = match (options.rate, options.stages) {
                    (Some(rate), None) => {
                        vec![Stage { to: rate.per_second, over: Duration::ZERO }]
                    }
                    (None, Some(stages)) => self.stages(&stages)?,
                    (Some(_), Some(_)) => {
                        self.error(rate_path, "`arrival_rate` has both `rate` and `stages`");
                        return None;
                    }
                    (None, None) if self.told_within(rate_path) => return None,
                    (None, None) => {
                        self.error(rate_path, "`arrival_rate` needs `rate` or `stages`");
                        return None;
                    }
                };
                if stages.iter().all(|stage| stage.to == 0.0) {
                    self.error(rate_path, "an `arrival_rate` of nothing sends no requests");
                    return None;
                }
                if stages.iter().any(|stage| stage.to > 100_000.0) {
                    self.error(rate_path, "the `arrival_rate` is above 100000/s");
                    return None;
                }
                Some(Arrivals::Rate { stages, shape })
            }
        }
    }

    fn stages(&mut self, stages: &[schema::ArrivalStage]) -> Option<Vec<Stage>> {
        let mut lowered = Vec::new();
        for (number, stage) in stages.iter().enumerate() {
            let path = way!["workload", "arrival_rate", "stages", number];
            match (stage.to, stage.over) {
                (Some(to), Some(over)) => {
                    lowered.push(Stage { to: to.per_second, over: over.0 });
                }
                _ if self.told_within(path) => {}
                _ => self.error(path, "a stage needs `to` and `over`: { to: 12/s, over: 2m }"),
            }
        }
        if stages.is_empty() && !self.told_within(way!["workload", "arrival_rate"]) {
            self.error(way!["workload", "arrival_rate", "stages"], "`stages` is empty");
        }
        (!stages.is_empty() && lowered.len() == stages.len()).then_some(lowered)
    }

    fn sessions(&mut self, sessions: &schema::Sessions) -> Sessions {
        let turns = sessions.turns.unwrap_or(Count { low: 1, high: 1 });
        if turns.low == 0 {
            let path = way!["workload", "sessions", "turns"];
            self.error(path, "a session has one turn at least");
        }
        if sessions.users == Some(0) {
            self.error(way!["workload", "sessions", "users"], "`users` must be above 0");
        }
        let none = SpanRange { low: Duration::ZERO, high: Duration::ZERO };
        Sessions {
            turns,
            think_time: sessions.think_time.unwrap_or(none),
            users: sessions.users.unwrap_or(100),
        }
    }

    fn prompts(&mut self, prompts: Option<schema::Prompts>) -> Option<Prompts> {
        let path = way!["workload", "prompts"];
        let Some(prompts) = prompts else { return Some(Prompts::Preset("chat")) };
        match (prompts.file, prompts.preset, prompts.list) {
            (Some(file), None, None) => self.prompt_file(&file),
            (None, Some(name), None) => {
                let known = PRESETS.iter().find(|known| **known == name);
                if known.is_none() {
                    let path = way!["workload", "prompts", "preset"];
                    let text = format!("there is no prompt preset {}", self.quoted(path, &name));
                    let mistake = Mistake::at(self.place(path), text);
                    self.found.error(mistake.meant(&name, "presets", PRESETS.iter().copied()));
                }
                known.map(|known| Prompts::Preset(known))
            }
            (None, None, Some(list)) => self.prompt_list(list),
            (None, None, None) => {
                let refused =
                    ["file", "preset", "list"].iter().any(|key| self.absence_is_told(path, key));
                if !refused {
                    self.error(path, "`prompts` needs one of `file`, `preset` and `list`");
                }
                None
            }
            _ => {
                self.error(path, "`prompts` takes one of `file`, `preset` and `list`, not several");
                None
            }
        }
    }

    fn prompt_list(&mut self, list: Vec<serde_json::Value>) -> Option<Prompts> {
        let mut prompts = Vec::new();
        for (number, value) in list.into_iter().enumerate() {
            match prompt(value) {
                Ok(prompt) => prompts.push(prompt),
                Err(reason) => self.error(way!["workload", "prompts", "list", number], reason),
            }
        }
        if prompts.is_empty() {
            self.error(way!["workload", "prompts", "list"], "the list holds no prompt");
            return None;
        }
        Some(Prompts::List(prompts.into()))
    }

    fn prompt_file(&mut self, file: &str) -> Option<Prompts> {
        let path = way!["workload", "prompts", "file"];
        let shown = self.quoted(path, file);
        let full = self.base_dir.join(file);
        let bytes = match read_limited(&full) {
            Ok(bytes) => bytes,
            Err(reason) => {
                let text = format!("the prompt file {shown} cannot be read: {reason}");
                let mut mistake = Mistake::at(self.place(path), text);
                if let Some(near) = neighbour(&full) {
                    mistake = mistake.label(format!("did you mean `{near}`?"));
                }
                let mistake = mistake.hint("it is looked for beside the experiment file");
                if !self.text_alone {
                    self.found.error(mistake);
                    return None;
                }
                self.found.warn(mistake);
                return Some(Prompts::List([].into()));
            }
        };
        match read_jsonl(&bytes) {
            Ok(prompts) => Some(Prompts::List(prompts)),
            Err(bad) => {
                for one in bad {
                    self.error(path, format!("the prompt file {shown}: {one}"));
                }
                None
            }
        }
    }
}

/// `body.messages[0].content` as the steps `body`, `messages`, `0`, `content`.
fn steps_of(place: &str) -> Vec<String> {
    place.split(['.', '[', ']']).filter(|step| !step.is_empty()).map(str::to_owned).collect()
}

/// A prompt is a string, or an object with `text`.
fn prompt(value: serde_json::Value) -> Result<Prompt, String> {
    match value {
        serde_json::Value::String(text) => Ok(Prompt { text, fields: serde_json::Map::new() }),
        serde_json::Value::Object(fields) => match fields.get("text") {
            Some(serde_json::Value::String(text)) => Ok(Prompt { text: text.clone(), fields }),
            Some(_) => Err("the `text` of a prompt is a string".into()),
            None => Err("a prompt is a string, or an object with `text`".into()),
        },
        _ => Err("a prompt is a string, or an object with `text`".into()),
    }
}

fn read_limited(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let plain = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    };
    let file = std::fs::File::open(path).map_err(plain)?;
    let meta = file.metadata().map_err(plain)?;
    if !meta.is_file() {
        return Err("it is no plain file".into());
    }
    if meta.len() > LARGEST_FILE {
        return Err(format!("it is larger than {} MB", LARGEST_FILE / 1_000_000));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE).read_to_end(&mut bytes).map_err(plain)?;
    Ok(bytes)
}

/// A file in the same folder whose name is near.
fn neighbour(path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_str()?;
    let names: Vec<String> = std::fs::read_dir(path.parent()?)
        .ok()?
        .take(500)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    nearest(wanted, names.iter().map(String::as_str)).map(str::to_owned)
}
