// The report of a call as data, for whoever helps or learns: everything but what opens doors. Decides only.

/** Passwords of TURN are the only secret that a page has. */
function server({ urls, username }) {
  return { urls: [urls].flat(), ...(username ? { username, credential: "(left out)" } : {}) };
}

export function report({ call, journal, history, stats, agent, at }) {
  const configuration = call?.peer?.getConfiguration?.();
  return {
    schema_version: 1,
    at,
    agent,
    room: call?.room ?? null,
    state: call?.state ?? null,
    configuration: configuration && { ...configuration, iceServers: configuration.iceServers?.map(server), certificates: undefined },
    states: call?.peer && {
      connection: call.peer.connectionState,
      ice: call.peer.iceConnectionState,
      signaling: call.peer.signalingState,
    },
    events: journal?.events ?? [],
    candidates: journal?.candidates ?? [],
    errors: journal?.errors ?? [],
    descriptions: journal?.descriptions ?? [],
    figures: history?.all ?? [],
    stats: stats ?? [],
  };
}
