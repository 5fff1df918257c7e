/* Server-sent events, as a response's body brings them, whatever its pieces. */

/**
 * The events of a stream of bytes: `{ event, data }` each, "message" where the stream names no event.
 * https://html.spec.whatwg.org/multipage/server-sent-events.html, without ids and reconnection.
 */
export async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = "message";
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      // A CR at the end may be half of a CR LF.
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length) yield { event, data: data.join("\n") };
          event = "message";
          data = [];
          continue;
        }
        const colon = line.indexOf(":");
        const name = colon < 0 ? line : line.slice(0, colon);
        const content = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
        if (name === "data") data.push(content);
        else if (name === "event") event = content;
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
