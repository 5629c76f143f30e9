//! What a request wants an answer's JSON to look like: the schema of a structured answer, the tools
//! with the schemas of their arguments. The members that hold them are few over all providers; so
//! they are looked for wherever they may stand.

use serde_json::Value;

/// A tool that a request offers.
#[derive(Clone, Debug, PartialEq)]
pub struct Offered {
    pub name: String,
    /// Null where it has none.
    pub schema: Value,
}

/// The schema that the answer's text is to fit.
const SCHEMAS: &[&str] = &[
    "/response_format/json_schema/schema",
    "/text/format/schema",
    "/output_format/schema",
    "/output_config/format/schema",
    "/generationConfig/responseJsonSchema",
    "/generationConfig/responseSchema",
    "/generation_config/response_json_schema",
    "/generation_config/response_schema",
    "/response_format/json_schema",
    "/response_format/schema",
    "/format",
    "/guided_json",
];

/// The schema of a tool's arguments.
const PARAMETERS: &[&str] =
    &["/parameters", "/parametersJsonSchema", "/input_schema", "/inputSchema/json", "/inputSchema"];

/// The schema in a request; None where there is none, or where the request was not read to its end.
pub(super) fn schema(body: &[u8]) -> Option<Value> {
    let request: Value = serde_json::from_slice(body).ok()?;
    let found = SCHEMAS.iter().find_map(|place| request.pointer(place).filter(is_schema));
    found.cloned()
}

fn is_schema(value: &&Value) -> bool {
    value.is_object()
        && ["type", "properties", "$ref", "anyOf"].iter().any(|key| {
            value.get(key).is_some_and(|_| *key != "type" || value["type"] != "json_object")
        })
}

/// The tools that a request offers.
pub(super) fn tools(body: &[u8]) -> Vec<Offered> {
    let Ok(request) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let lists = ["/tools", "/toolConfig/tools", "/functions"];
    let listed = lists.iter().filter_map(|place| request.pointer(place)?.as_array()).flatten();
    listed.flat_map(offered).collect()
}

/// The tools of one item: most hold one, Gemini's several.
fn offered(item: &Value) -> Vec<Offered> {
    let several = item["functionDeclarations"].as_array();
    if let Some(several) = several.or_else(|| item["function_declarations"].as_array()) {
        return several.iter().filter_map(tool).collect();
    }
    let inner = ["function", "toolSpec"].iter().find_map(|key| item.get(key));
    tool(inner.unwrap_or(item)).into_iter().collect()
}

fn tool(tool: &Value) -> Option<Offered> {
    let name = tool["name"].as_str()?.to_owned();
    let schema = PARAMETERS.iter().find_map(|place| tool.pointer(place)).cloned();
    Some(Offered { name, schema: schema.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_are_found_wherever_providers_have_them() {
        let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
        for request in [
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "x", "schema": schema } } }),
            json!({ "text": { "format": { "type": "json_schema", "schema": schema } } }),
            json!({ "generationConfig": { "responseSchema": schema } }),
            json!({ "format": schema }),
            json!({ "output_format": { "type": "json_schema", "schema": schema } }),
        ] {
            assert_eq!(super::schema(request.to_string().as_bytes()), Some(schema.clone()));
        }
        for request in [
            json!({ "response_format": { "type": "json_object" } }),
            json!({ "format": "json" }),
            json!({ "messages": [] }),
        ] {
            assert_eq!(super::schema(request.to_string().as_bytes()), None, "{request}");
        }
        assert_eq!(super::schema(b"{\"format\":{\"type\":\"obj"), None);
    }

    #[test]
    fn tools_are_found_wherever_providers_have_them() {
        let schema = json!({ "type": "object" });
        for request in [
            json!({ "tools": [{ "type": "function", "function": { "name": "f", "parameters": schema } }] }),
            json!({ "tools": [{ "type": "function", "name": "f", "parameters": schema }] }),
            json!({ "tools": [{ "name": "f", "input_schema": schema }] }),
            json!({ "tools": [{ "functionDeclarations": [{ "name": "f", "parameters": schema }] }] }),
            json!({ "toolConfig": { "tools": [{ "toolSpec": { "name": "f", "inputSchema": { "json": schema } } }] } }),
        ] {
            let wanted = Offered { name: "f".to_owned(), schema: schema.clone() };
            assert_eq!(tools(request.to_string().as_bytes()), [wanted], "{request}");
        }
        assert!(tools(b"{}").is_empty() && tools(b"nope").is_empty());
        assert!(tools(br#"{"tools":[{"type":"web_search"},7]}"#).is_empty());
    }
}
