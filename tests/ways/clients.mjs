// One call of an official Node client, its settings from the environment; prints what it got.
const ask = [{ role: "user", content: "How do refunds work?" }];

const clients = {
  async openai() {
    const { default: OpenAI } = await import("openai");
    const answer = await new OpenAI({ apiKey: "sk-test", maxRetries: 0 }).chat.completions.create({
      model: "gpt-4o",
      messages: ask,
    });
    return answer.choices[0].message.content;
  },
  async openai_stream() {
    const { default: OpenAI } = await import("openai");
    const events = await new OpenAI({ apiKey: "sk-test", maxRetries: 0 }).chat.completions.create({
      model: "gpt-4o",
      messages: ask,
      stream: true,
    });
    let text = "";
    for await (const event of events) text += event.choices[0].delta.content ?? "";
    return text;
  },
  async anthropic() {
    const { default: Anthropic } = await import("@anthropic-ai/sdk");
    const answer = await new Anthropic({ apiKey: "sk-ant-test", maxRetries: 0 }).messages.create({
      model: "claude-sonnet-5",
      max_tokens: 64,
      messages: ask,
    });
    return answer.content[0].text;
  },
  async vercel() {
    const { createOpenAI } = await import("@ai-sdk/openai");
    const { streamText } = await import("ai");
    const openai = createOpenAI({ apiKey: "sk-test", baseURL: process.env.OPENAI_BASE_URL });
    let failed;
    const result = streamText({
      model: openai.chat("gpt-4o"),
      messages: ask,
      maxRetries: 0,
      onError: ({ error }) => (failed = error),
    });
    let text = "";
    for await (const piece of result.textStream) text += piece;
    if (failed) throw failed;
    return text;
  },
  async fetch() {
    return await (await fetch(process.env.WAYS_PLAIN_URL + "/hello")).json();
  },
};

console.log(JSON.stringify(await clients[process.argv[2]]()));
