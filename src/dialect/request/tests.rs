use super::*;

fn members(key: &str) -> What {
    match key {
        "input" | "messages" | "contents" => What::Conversation,
        "max_tokens" => What::MaxTokens,
        "model" => What::Model,
        "options" => What::Within(|key| match key {
            "most" => What::MaxTokens,
            _ => What::Nothing,
        }),
        "stream" => What::Stream,
        "system" => What::Text,
        "tools" => What::Tools,
        _ => What::Nothing,
    }
}

fn read(body: &str) -> Asked {
    Asked::read(members, body.as_bytes())
}

#[test]
fn everything_before_a_cut_is_kept() {
    let asked = read(
        r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"12345678"},{"content":"abc"#,
    );
    assert_eq!(asked.model.as_deref(), Some("gpt-4o"));
    assert!(asked.stream == Some(true) && !asked.whole);
    assert_eq!((asked.text, asked.turn), (8, 1));
}

#[test]
fn text_is_counted_in_all_shapes() {
    let count = |body: &str| read(body).text;
    assert_eq!(count(r#"{"input":"12345678"}"#), 8);
    assert_eq!(count(r#"{"input":["1234","12\n4"]}"#), 8);
    assert_eq!(count(r#"{"input":[[1,2],[3]]}"#), 12);
    assert_eq!(count(r#"{"system":[{"type":"text","text":"1234"}]}"#), 4);
    let parts = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"1234"},{"type":"image_url","image_url":{"url":"data:xxxxxxxx"}},{"type":"image","source":{"data":"xxxx"}}]}]}"#;
    assert_eq!(count(parts), 4);
    let gemini = r#"{"contents":[{"parts":[{"text":"1234"},{"inlineData":{"mimeType":"a/b","data":"xxxx"}}]}]}"#;
    assert_eq!(count(gemini), 4);
}

#[test]
fn turns_are_what_the_user_says() {
    let turn = |body: &str| read(body).turn;
    assert_eq!(turn(r#"{"input":"hi"}"#), 1);
    assert_eq!(turn(r#"{"messages":[]}"#), 0);
    let tools = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{"role":"user"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"r"}]},{"role":"assistant","content":"b"},{"content":[{"type":"text","text":"c"}],"role":"user"}]}"#;
    assert_eq!(turn(tools), 2, "the result of a tool is not the user's word");
    let gemini = r#"{"contents":[{"parts":[{"text":"a"}]},{"role":"model","parts":[{"functionCall":{"name":"f"}}]},{"role":"user","parts":[{"functionResponse":{"name":"f","response":{}}}]}]}"#;
    assert_eq!(turn(gemini), 1);
    assert_eq!(turn(r#"{"contents":{"parts":[{"text":"a"}]}}"#), 1);
    assert_eq!(turn(r#"{"messages":[{"role":["user"],"content":"a"},7,"x"]}"#), 0);
}

#[test]
fn tools_are_named_in_all_shapes() {
    let asked = read(
        r#"{"tools":[{"name":"a","input_schema":{"properties":{"name":{"type":"string"}}}},{"type":"function","function":{"name":"b","description":"1234"}},{"functionDeclarations":[{"name":"c"},{"name":"d"}]},{"googleSearch":{}},{"name":7}]}"#,
    );
    assert_eq!(asked.tools, ["a", "b", "c", "d"]);
    assert!(asked.whole && asked.turn == 0);
    let many = format!(r#"{{"tools":[{}0]}}"#, r#"{"name":"x"},"#.repeat(1000));
    assert_eq!(read(&many).tools.len(), TOOLS);
}

#[test]
fn members_may_lie_within_others() {
    assert_eq!(read(r#"{"options":{"other":[1],"most":7},"model":"m"}"#).max_tokens, Some(7));
    assert_eq!(read(r#"{"options":null,"model":"m"}"#).model.as_deref(), Some("m"));
}

#[test]
fn nulls_mean_unset() {
    let asked = read(r#"{"model":null,"stream":null,"max_tokens":null}"#);
    assert!(asked.whole && asked.stream.is_none() && asked.model.is_none());
    assert_eq!(read(r#"{"max_tokens":99999999999}"#).max_tokens, Some(u32::MAX));
}
