// Which ICE servers a call uses, by what the user forces. Decides only.

/** Ways that can be forced, from the freest. */
export const WAYS = ["any", "relay", "udp", "tcp", "tls"];

/** How a URL of a server is reached: stun, udp, tcp or tls. */
export function transportOf(url) {
  const scheme = /^(stuns?|turns?):/i.exec(url)?.[1]?.toLowerCase();
  if (scheme === "turns") {
    return "tls";
  }
  if (scheme === "turn") {
    return /[?&]transport=tcp/i.test(url) ? "tcp" : "udp";
  }
  return scheme ? "stun" : null;
}

/** The configuration of a connection that goes only the forced way. */
export function configuration(servers, way) {
  const wanted = { udp: ["udp"], tcp: ["tcp"], tls: ["tls"] }[way];
  const kept = (servers ?? [])
    .map((server) => ({ ...server, urls: [server.urls].flat().filter((url) => !wanted || wanted.includes(transportOf(url))) }))
    .filter((server) => server.urls.length > 0);
  return { iceServers: kept, iceTransportPolicy: way === "any" ? "all" : "relay" };
}
