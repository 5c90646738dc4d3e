// The way that media takes, as stations and the legs between them. Decides only.

import { addressKind, relayProtocol } from "./candidates.js";

/** The stations of one side, from its person outwards. */
function side(candidate, person) {
  const { candidateType: type = candidate?.type, address = candidate?.ip, relatedAddress, port, relatedPort } = candidate ?? {};
  const place = (address, port) => (address ? `${address.includes(":") ? `[${address}]` : address}${port ? `:${port}` : ""}` : null);
  if (type === "relay") {
    const by = relayProtocol({ ...candidate, type }) ?? candidate.protocol ?? "udp";
    return [{ kind: person, address: null }, { kind: "relay", address: place(address, port), by, url: candidate.url ?? null }];
  }
  if (type === "srflx" || type === "prflx") {
    return [{ kind: person, address: place(relatedAddress, relatedPort) }, { kind: "nat", type, address: place(address, port), by: candidate.protocol ?? "udp" }];
  }
  return [{ kind: person, address: place(address, port), hidden: addressKind(address) === "mdns" || !address }];
}

/**
 * The route of the selected pair of `selectedPair`: {stations, legs, kind}, with one leg between each two stations.
 * Kind is host (one network), nat (through NAT, without a relay) or relay.
 */
export function route(selected) {
  if (!selected?.local && !selected?.remote) {
    return null;
  }
  const [own, other] = [side(selected.local, "you"), side(selected.remote, "other")];
  const middle = { protocol: selected.local?.protocol ?? selected.remote?.protocol ?? "udp" };
  const legs = [...own.slice(1).map(({ by }) => ({ protocol: by })), middle, ...other.slice(1).map(({ by }) => ({ protocol: by })).reverse()];
  const stations = [...own, ...other.reverse()];
  const all = stations.map((station) => station.kind);
  const kind = all.includes("relay") ? "relay" : all.includes("nat") ? "nat" : "host";
  return { stations, legs, kind };
}
