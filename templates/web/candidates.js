// ICE candidates as data: what a candidate line says, and what its numbers mean. Decides only.

/** Reads a line like `candidate:1 1 udp 2122 10.0.0.1 5000 typ srflx raddr .. rport ..`; null if it is none. */
export function parseCandidate(line) {
  const words = String(line ?? "").replace(/^a=/, "").trim().split(/\s+/);
  if (!/^candidate:/.test(words[0] ?? "") || words.length < 8 || words[6] !== "typ") {
    return null;
  }
  const more = new Map();
  for (let at = 8; at + 1 < words.length; at += 2) {
    more.set(words[at], words[at + 1]);
  }
  return {
    foundation: words[0].slice("candidate:".length),
    component: Number(words[1]),
    protocol: words[2].toLowerCase(),
    priority: Number(words[3]),
    address: words[4],
    port: Number(words[5]),
    type: words[7],
    relatedAddress: more.get("raddr") ?? null,
    relatedPort: more.has("rport") ? Number(more.get("rport")) : null,
    tcpType: more.get("tcptype") ?? null,
  };
}

/** The three parts of a priority: type preference, local preference, component. RFC 8445, section 5.1.2. */
export const priorityParts = (priority) => [priority >>> 24, (priority >>> 8) & 0xffff, 256 - (priority & 0xff)];

/** The protocol between a browser and its relay, by the type preference that libwebrtc gives it; null if unknown. */
export function relayProtocol(candidate) {
  if (candidate.relayProtocol) {
    return candidate.relayProtocol;
  }
  return candidate.type === "relay" ? ({ 0: "tls", 1: "tcp", 2: "udp" }[candidate.priority >>> 24] ?? null) : null;
}

/** How an address would be called. */
export function addressKind(address) {
  if (!address) {
    return "hidden";
  }
  if (/\.local$/i.test(address)) {
    return "mdns";
  }
  if (/^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|169\.254\.|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|f[cd]|fe80)/i.test(address)) {
    return "private";
  }
  return "public";
}
