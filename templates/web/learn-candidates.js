// The candidates of both sides as they came, and the errors on the way, each explained.

import { addressKind, parseCandidate, priorityParts, relayProtocol } from "./candidates.js";
import { iceProblem } from "./problems.js";
import { make, number, text } from "./shell.js";

const TYPES = { host: "typeHost", srflx: "typeSrflx", prflx: "typePrflx", relay: "typeRelay" };

export class CandidatesView {
  node = make("div");
  #journal = null;
  #used = [];

  start({ journal }) {
    [this.#journal, this.#used] = [journal, []];
  }

  update(report, way, isShown) {
    const pairs = [...report.values()].filter((one) => one.type === "transport").map((one) => report.get(one.selectedCandidatePairId));
    const ends = pairs.flatMap((pair) => (pair ? [report.get(pair.localCandidateId), report.get(pair.remoteCandidateId)] : []));
    this.#used = ends.filter(Boolean).map(({ address, port, candidateType }) => `${candidateType} ${address} ${port}`);
    if (isShown) {
      this.show();
    }
  }

  show() {
    const { candidates = [], errors = [] } = this.#journal ?? {};
    this.node.replaceChildren(
      ...["own", "other"].flatMap((side) => [
        make("h3", "", text(side === "own" ? "candidatesOwn" : "candidatesOther")),
        this.#list(candidates.filter((one) => one.side === side)),
      ]),
      ...(errors.length ? [make("h3", "", text("candidateErrors")), this.#errors(errors)] : []),
    );
  }

  #list(candidates) {
    const list = make("ul", "candidates");
    for (const { at, line, relayProtocol: known, url } of candidates) {
      const read = parseCandidate(line);
      if (!read) {
        continue;
      }
      const { type, protocol, address, port, priority, relatedAddress, tcpType } = read;
      const by = relayProtocol({ ...read, relayProtocol: known });
      const kind = addressKind(address);
      const place = kind === "mdns" ? text("addressHidden") : address;
      const isUsed = this.#used.includes(`${type} ${address} ${port}`);
      const more = [
        text(TYPES[type] ?? "typeHost"),
        by ? text("relayBy", { by: by.toUpperCase() }) : null,
        tcpType ? `TCP ${tcpType}` : null,
        relatedAddress && !/^(0\.0\.0\.0|::)$/.test(relatedAddress) ? text("relatedTo", { address: relatedAddress }) : null,
        url || null,
        `${text("priority")} ${priorityParts(priority).join(" · ")}`,
        `${number(at / 1000, 2)} s`,
      ].filter(Boolean);
      list.append(
        make(
          "li",
          isUsed ? "used" : "",
          make("span", `type ${type}`, type),
          make("code", "", `${protocol} ${place}:${port}`),
          isUsed ? make("span", "chip", text("inUse")) : null,
          make("span", "faint", more.join(" · ")),
        ),
      );
    }
    if (!list.children.length) {
      list.append(make("li", "faint", text("candidatesNone")));
    }
    return list;
  }

  #errors(errors) {
    const list = make("ul", "candidates");
    for (const error of errors) {
      const code = make("span", "type error", String(error.errorCode));
      list.append(make("li", "", code, make("code", "", error.url ?? ""), make("span", "faint", `${text(iceProblem(error))} (${error.errorText})`)));
    }
    return list;
  }
}
