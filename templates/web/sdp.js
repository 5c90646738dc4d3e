// Session descriptions as data: their sections, their codecs, and what changed between two of them. Decides only.

const lines = (sdp) => String(sdp ?? "").split(/\r?\n/).filter(Boolean);

/** The differences between two descriptions, line by line: [{kind: "same" | "added" | "removed", line}]. */
export function difference(before, after) {
  const [old, now] = [lines(before), lines(after)];
  // The longest common subsequence, counted from the end, so that walking forward reads the answer.
  const width = now.length + 1;
  const common = new Uint16Array((old.length + 1) * width);
  for (let row = old.length - 1; row >= 0; row -= 1) {
    for (let column = now.length - 1; column >= 0; column -= 1) {
      const at = row * width + column;
      common[at] = old[row] === now[column] ? common[at + width + 1] + 1 : Math.max(common[at + width], common[at + 1]);
    }
  }
  const out = [];
  let [row, column] = [0, 0];
  while (row < old.length || column < now.length) {
    if (row < old.length && column < now.length && old[row] === now[column]) {
      out.push({ kind: "same", line: old[row] });
      row += 1;
      column += 1;
    } else if (row < old.length && (column === now.length || common[(row + 1) * width + column] >= common[row * width + column + 1])) {
      out.push({ kind: "removed", line: old[row] });
      row += 1;
    } else {
      out.push({ kind: "added", line: now[column] });
      column += 1;
    }
  }
  return out;
}

/** How many lines came and went. */
export function count(changes) {
  const of = (kind) => changes.filter((change) => change.kind === kind).length;
  return { added: of("added"), removed: of("removed") };
}

/** The media sections: [{kind, mid, direction, codecs, candidates}]. */
export function sections(sdp) {
  const out = [];
  for (const line of lines(sdp)) {
    if (line.startsWith("m=")) {
      out.push({ kind: line.slice(2).split(" ")[0], mid: null, direction: null, codecs: [], candidates: 0 });
    }
    const section = out.at(-1);
    if (!section) {
      continue;
    }
    if (line.startsWith("a=mid:")) {
      section.mid = line.slice(6);
    } else if (/^a=(sendrecv|sendonly|recvonly|inactive)$/.test(line)) {
      section.direction = line.slice(2);
    } else if (line.startsWith("a=rtpmap:")) {
      const name = line.split(" ")[1]?.split("/")[0];
      if (name && !section.codecs.includes(name)) {
        section.codecs.push(name);
      }
    } else if (line.startsWith("a=candidate:")) {
      section.candidates += 1;
    }
  }
  return out;
}

/** What a line is for, as a key of the strings; null where there is nothing to say. */
export function meaning(line) {
  const known = [
    [/^m=/, "sdpMedia"],
    [/^a=group:BUNDLE/, "sdpBundle"],
    [/^a=ice-(ufrag|pwd)/, "sdpIce"],
    [/^a=fingerprint/, "sdpFingerprint"],
    [/^a=setup/, "sdpSetup"],
    [/^a=candidate/, "sdpCandidate"],
    [/^a=rtpmap/, "sdpRtpmap"],
    [/^a=fmtp/, "sdpFmtp"],
    [/^a=rtcp-fb/, "sdpFeedback"],
    [/^a=extmap/, "sdpExtension"],
    [/^a=ssrc/, "sdpSource"],
    [/^a=(sendrecv|sendonly|recvonly|inactive)$/, "sdpDirection"],
    [/^a=sctp/, "sdpSctp"],
    [/^b=/, "sdpBandwidth"],
  ];
  return known.find(([pattern]) => pattern.test(line))?.[1] ?? null;
}
