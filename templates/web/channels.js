// The data channels of a call: lines of chat, what each tells of itself, and files.
//
// Chat goes by a channel that is offered, as old pages do it. The others both of our pages open by themselves under
// the same numbers, so that old pages never see them.

const NUMBERS = { status: 10, files: 11 };
/** Letters of a line that are taken. */
export const MAX_LINE = 4000;

/** Events: chat, with the line; status, when the other has told something; left, when it has hung up. */
export class Channels extends EventTarget {
  lines = [];
  /** What the other tells of itself: {muted, hidden, sharing}; null of an old page. */
  other = null;
  #media;
  #transfers;
  #chat = null;
  #status = null;

  constructor(media, transfers) {
    super();
    [this.#media, this.#transfers] = [media, transfers];
  }

  /** Opens what both of our pages open. */
  open(peer) {
    const channel = (label) => peer.createDataChannel(label, { negotiated: true, id: NUMBERS[label] });
    const status = channel("status");
    this.#status = status;
    status.onopen = () => this.sayStatus();
    status.onmessage = ({ data }) => this.#status === status && this.#hearStatus(data);
    this.#transfers.use(channel("files"));
  }

  /** Takes the channel of the chat, whoever offered it. */
  useChat(channel) {
    this.#chat = channel;
    channel.onmessage = ({ data }) => typeof data === "string" && this.#line("other", data.slice(0, MAX_LINE));
  }

  close() {
    [this.#chat, this.#status, this.other] = [null, null, null];
    this.#transfers.use(null);
  }

  /** Sends a line of text. Gives whether there was somebody to send it to. */
  say(text) {
    if (this.#chat?.readyState !== "open") {
      return false;
    }
    this.#chat.send(text);
    this.#line("you", text);
    return true;
  }

  sayStatus() {
    this.#send(this.#media.status);
  }

  /** Says goodbye, which is heard even while the server is away. */
  sayLeft() {
    this.#send({ left: true });
  }

  #send(status) {
    if (this.#status?.readyState === "open") {
      this.#status.send(JSON.stringify(status));
    }
  }

  #hearStatus(data) {
    try {
      const { muted, hidden, sharing, left } = JSON.parse(data);
      if (left === true) {
        this.dispatchEvent(new Event("left"));
        return;
      }
      this.other = { muted: muted === true, hidden: hidden === true, sharing: sharing === true };
      this.dispatchEvent(new Event("status"));
    } catch {
      // Nothing that one of our pages would say.
    }
  }

  #line(from, text) {
    this.lines.push({ from, text });
    this.dispatchEvent(new CustomEvent("chat", { detail: { from, text } }));
  }
}
