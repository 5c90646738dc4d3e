// Gathers candidates by one server alone: what it gives, how soon, and what goes wrong.

/** Milliseconds after which a gathering is ended. */
const GATHERED_WITHIN = 10000;

/** One server for each URL of a list, with a password only where one is used. */
export function eachUrl(servers) {
  return servers.flatMap(({ urls, username, credential }) =>
    [urls].flat().map((url) => (/^turns?:/i.test(url) ? { urls: [url], username, credential } : { urls: [url] })),
  );
}

/**
 * Gathers by one server; `told` hears of the result as it grows: {url, candidates, errors, ms, isDone, isRefused,
 * lacksPassword}, with the milliseconds until the first candidate that came from the server. Gives the result at its end.
 */
export async function gather(server, told = () => {}) {
  const result = { url: server.urls[0], candidates: [], errors: [], ms: null, isDone: false };
  result.lacksPassword = /^turns?:/i.test(result.url) && !(server.username && server.credential);
  told(result);
  const start = performance.now();
  let peer = null;
  try {
    peer = new RTCPeerConnection({ iceServers: [server], iceTransportPolicy: /^turn/i.test(result.url) ? "relay" : "all" });
    await new Promise((done, fail) => {
      setTimeout(done, GATHERED_WITHIN);
      peer.onicecandidateerror = ({ errorCode, errorText, url, address }) => result.errors.push({ errorCode, errorText, url: url || result.url, address });
      peer.onicecandidate = ({ candidate }) => {
        if (!candidate?.candidate) {
          return;
        }
        const { type, protocol, address, port, priority, relayProtocol } = candidate;
        const ms = performance.now() - start;
        result.candidates.push({ type, protocol, address, port, priority, relayProtocol, ms, url: candidate.url || result.url });
        if (type !== "host") {
          result.ms ??= ms;
        }
        told(result);
      };
      peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && done();
      peer.createDataChannel("ice");
      peer.setLocalDescription().catch(fail);
    });
  } catch (error) {
    result.errors.push({ errorText: error.message, url: result.url });
    result.isRefused = true;
  } finally {
    peer?.close();
  }
  result.isDone = true;
  told(result);
  return result;
}
