//! Fills in `${NAME}`, `${NAME:-default}`: from `vars`, then from the environment. In scalar values
//! only, never in keys. `$${` stands for a plain `${`.

use super::diagnostic::{Collector, Mistake, nearest};
use super::place::Sources;
use super::tree::{Node, Value, resolve_plain};
use crate::workload::template::is_placeholder;

/// Longer values stop the filling in: variables that double each other would never end.
const LONGEST: usize = 64 * 1024;

/// Looks up a variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A filled-in text.
#[derive(Clone, Debug, Default)]
struct Filled {
    text: String,
    /// Something in it comes from the environment.
    secret: bool,
}

/// Fills in all variables of the tree; what is unknown is noted.
pub(super) fn fill(
    root: &mut Node,
    sources: &Sources,
    environment: Environment<'_>,
    found: &mut Collector,
) {
    let mut filler = Filler { sources, environment, vars: Vec::new(), later: Vec::new(), found };
    filler.read_vars(root);
    let Value::Map(entries) = &mut root.value else { return };
    for entry in entries {
        match entry.key.as_str() {
            "vars" | "profiles" => {}
            "workload" => filler.walk_workload(&mut entry.value),
            _ => filler.walk(&mut entry.value, false),
        }
    }
}

struct Filler<'a> {
    sources: &'a Sources,
    environment: Environment<'a>,
    /// The `vars` read so far.
    vars: Vec<(String, Filled)>,
    /// The `vars` that come later in the file.
    later: Vec<String>,
    found: &'a mut Collector,
}

impl Filler<'_> {
    /// Each of the `vars` sees the ones above it; its own name means the environment.
    fn read_vars(&mut self, root: &mut Node) {
        let Some(vars) = root.get_mut("vars") else { return };
        let Value::Map(entries) = &mut vars.value else {
            if vars.value != Value::Null {
                let text =
                    format!("`vars` takes a map of names and values, not {}", vars.described());
                self.found.error(Mistake::at(vars.place, text));
            }
            return;
        };
        self.later = entries.iter().map(|entry| entry.key.clone()).collect();
        for entry in entries {
            self.later.retain(|name| *name != entry.key);
            if !is_name(&entry.key) {
                let text = format!("`{}` is no name for a variable", entry.key);
                let hint = "use letters, digits and `_`, such as APP_URL";
                self.found.error(Mistake::at(entry.key_place, text).hint(hint));
                continue;
            }
            if matches!(entry.value.value, Value::List(_) | Value::Map(_)) {
                let what = entry.value.described();
                let text = format!("the variable `{}` takes one value, not {what}", entry.key);
                self.found.error(Mistake::at(entry.value.place, text));
                continue;
            }
            self.walk(&mut entry.value, false);
            let node = &entry.value;
            let text = node.text().unwrap_or(&node.spelled).to_owned();
            self.vars.push((entry.key.clone(), Filled { text, secret: node.secret }));
        }
    }

    fn walk_workload(&mut self, workload: &mut Node) {
        let Value::Map(entries) = &mut workload.value else { return };
        for entry in entries {
            self.walk(&mut entry.value, entry.key == "request");
        }
    }

    /// `request`: placeholders that the driver fills in for each request stay.
    fn walk(&mut self, node: &mut Node, request: bool) {
        match &mut node.value {
            Value::List(items) => items.iter_mut().for_each(|item| self.walk(item, request)),
            Value::Map(entries) => {
                entries.iter_mut().for_each(|entry| self.walk(&mut entry.value, request));
            }
            Value::Text(text) if text.contains("${") => {
                let text = std::mem::take(text);
                match self.fill_text(&text, node, request, 0) {
                    Ok(filled) => {
                        node.secret |= filled.secret;
                        let changed = filled.text != text;
                        if changed && node.plain {
                            node.value = resolve_plain(&filled.text);
                            node.spelled = filled.text;
                            // `${NAME:-}` is an intended nothing, not a forgotten value.
                            node.plain = node.value != Value::Null;
                        } else {
                            node.value = Value::Text(filled.text);
                        }
                    }
                    Err(mistake) => {
                        self.found.error(*mistake);
                        node.refused = true;
                        node.value = Value::Text(text);
                    }
                }
            }
            _ => {}
        }
    }

    fn fill_text(
        &self,
        text: &str,
        node: &Node,
        request: bool,
        depth: usize,
    ) -> Result<Filled, Box<Mistake>> {
        let mut filled = Filled::default();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, after) = rest.split_at(at);
            if let Some(unescaped) = before.strip_suffix('$') {
                // In a request the template takes the escape away.
                filled.text.push_str(if request { before } else { unescaped });
                filled.text.push_str("${");
                rest = &after[2..];
                continue;
            }
            filled.text.push_str(before);
            let Some(end) = closing_brace(after) else {
                return Err(self.mistake(node, "${", "`${` is never closed with `}`".into()));
            };
            let piece = &after[..=end];
            let value = self.value_of(piece, node, request, depth)?;
            filled.text.push_str(&value.text);
            filled.secret |= value.secret;
            rest = &after[end + 1..];
            if filled.text.len() > LONGEST {
                let text = format!("`{piece}` makes a value longer than {LONGEST} bytes");
                return Err(self.mistake(node, piece, text));
            }
        }
        filled.text.push_str(rest);
        Ok(filled)
    }

    /// The value of one `${…}`.
    fn value_of(
        &self,
        piece: &str,
        node: &Node,
        request: bool,
        depth: usize,
    ) -> Result<Filled, Box<Mistake>> {
        let inner = &piece[2..piece.len() - 1];
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        // The template's own reading judges what it knows and what it does not.
        if is_placeholder(name) || (request && name.contains('.')) {
            if !request {
                let text = format!("`${{{name}}}` is filled in for each request");
                let mistake = *self.mistake(node, piece, text);
                return Err(Box::new(mistake.label("only in `workload.request`")));
            }
            return Ok(Filled { text: piece.to_owned(), secret: false });
        }
        if !is_name(name) {
            let text = format!("`{piece}` names no variable");
            let mistake = self.mistake(node, piece, text);
            return Err(Box::new(mistake.label("write ${NAME} or ${NAME:-default}")));
        }
        if let Some((_, value)) = self.vars.iter().find(|(other, _)| other == name)
            && (!value.text.is_empty() || default.is_none())
        {
            return Ok(guarded(value.clone(), request));
        }
        if let Some(text) = (self.environment)(name)
            && (!text.is_empty() || default.is_none())
        {
            return Ok(guarded(Filled { text, secret: true }, request));
        }
        match default {
            Some(default) if depth < 8 => self.fill_text(default, node, request, depth + 1),
            Some(_) => Err(self.mistake(node, piece, "defaults are nested too deeply".into())),
            None => Err(Box::new(self.unset(name, node, piece))),
        }
    }

    fn unset(&self, name: &str, node: &Node, piece: &str) -> Mistake {
        let text = format!("`{name}` is set neither in `vars` nor in the environment");
        let mistake = *self.mistake(node, piece, text);
        if self.later.iter().any(|later| later == name) {
            return mistake.hint(format!("`vars.{name}` stands further down; move it up"));
        }
        let known: Vec<&str> = self.vars.iter().map(|(name, _)| name.as_str()).collect();
        let mistake = match nearest(name, known) {
            Some(near) => mistake.label(format!("did you mean `{near}`?")),
            None => mistake,
        };
        mistake.hint(format!("set it, or give it a default: ${{{name}:-…}}"))
    }

    /// A mistake at the `${…}` itself.
    fn mistake(&self, node: &Node, piece: &str, text: String) -> Box<Mistake> {
        let place = match self.sources.slice(node.place).find(piece) {
            Some(at) => self.sources.within(node.place, at, piece.len()),
            None => node.place,
        };
        Box::new(Mistake::at(place, text))
    }
}

/// What comes out of a variable is no placeholder, whatever it looks like.
fn guarded(mut filled: Filled, request: bool) -> Filled {
    if request {
        filled.text = filled.text.replace("${", "$${");
    }
    filled
}

/// Where the brace that opens at the text's beginning (`${`) is closed.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
