// The pictures on buttons: paths on a grid of 24, drawn in the colour of the text.

const SPACE = "http://www.w3.org/2000/svg";
const PATHS = {
  mic: "M12 3a3 3 0 0 0-3 3v5a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3ZM5.5 11a6.5 6.5 0 0 0 13 0M12 17.5V21M8.5 21h7",
  micOff: "M9 9v2a3 3 0 0 0 4.9 2.3M15 10.5V6a3 3 0 0 0-5.7-1.3M5.5 11a6.5 6.5 0 0 0 10.6 5M18.5 11a6.4 6.4 0 0 1-.6 2.7M12 17.5V21M8.5 21h7M3.5 3.5l17 17",
  camera: "M4.5 6.5h8a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2h-8a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2ZM14.5 11l6-3.5v9l-6-3.5",
  cameraOff: "M10.5 6.5h2a2 2 0 0 1 2 2v2.5l6-3.5v9l-2.2-1.3M14.5 14.8v.7a2 2 0 0 1-2 2h-8a2 2 0 0 1-2-2v-7c0-.9.6-1.7 1.4-1.9M3.5 3.5l17 17",
  screen: "M4 5h16a1.5 1.5 0 0 1 1.5 1.5v9A1.5 1.5 0 0 1 20 17H4a1.5 1.5 0 0 1-1.5-1.5v-9A1.5 1.5 0 0 1 4 5ZM8.5 20.5h7M12 14V8.5M9.5 10.5 12 8l2.5 2.5",
  screenOff: "M4 5h16a1.5 1.5 0 0 1 1.5 1.5v9A1.5 1.5 0 0 1 20 17H4a1.5 1.5 0 0 1-1.5-1.5v-9A1.5 1.5 0 0 1 4 5ZM8.5 20.5h7M9.8 8.8l4.4 4.4M14.2 8.8l-4.4 4.4",
  pip: "M4 5h16a1.5 1.5 0 0 1 1.5 1.5v11A1.5 1.5 0 0 1 20 19H4a1.5 1.5 0 0 1-1.5-1.5v-11A1.5 1.5 0 0 1 4 5ZM12.5 12h6v4h-6z",
  chat: "M4 5h16a1.5 1.5 0 0 1 1.5 1.5v9A1.5 1.5 0 0 1 20 17h-8.5L7 20.5V17H4a1.5 1.5 0 0 1-1.5-1.5v-9A1.5 1.5 0 0 1 4 5ZM7.5 9.5h9M7.5 12.5h6",
  learn: "M3 19.5h18M6 16l4-5.5 3.5 3L19 5.5M19 5.5h-4M19 5.5v4",
  leave: "M4.5 13.9c-1-.6-1.7-1.7-1.6-2.8C3.3 8.500 7.200 7 12 7s8.700 1.500 9.100 4.100c.1 1.100-.6 2.200-1.600 2.800l-1.500.8c-.7.4-1.600.1-1.900-.6l-.8-1.700c-2.100-.8-4.500-.8-6.600 0l-.8 1.700c-.3.7-1.200 1-1.900.6Z",
  copy: "M9 8.500h9.500V20H9zM15 8.500V4H5.500v11.500H9",
  share: "M12 14V3.500M8.500 6.500 12 3l3.500 3.500M6 11H5v9.500h14V11h-1",
  send: "M4 12 20 4.500l-5 16-3.500-6.500ZM11.500 14 20 4.500",
  attach: "m18.500 11.500-6.800 6.800a4.200 4.200 0 0 1-6-6l7.500-7.500a2.800 2.800 0 0 1 4 4l-7.400 7.400a1.400 1.400 0 0 1-2-2l6.300-6.300",
  close: "M6 6l12 12M18 6 6 18",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM12 2.500v2M12 19.500v2M2.500 12h2M19.500 12h2M5.300 5.300l1.400 1.400M17.300 17.300l1.400 1.400M5.300 18.700l1.400-1.400M17.300 6.700l1.400-1.400",
  moon: "M19.500 14.500A8 8 0 0 1 9.500 4.500a8 8 0 1 0 10 10Z",
  you: "M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM4.500 20.500c.6-4 3.600-6 7.500-6s6.900 2 7.500 6",
  other: "M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM4.500 20.500c.6-4 3.600-6 7.500-6s6.900 2 7.500 6",
  nat: "M3 14.500h18v5H3zM6.500 17h.01M10 17h.01M7 14.500 5 7M17 14.500 19 7M9 9a4.500 4.500 0 0 1 6 0M10.800 11.300a1.800 1.800 0 0 1 2.400 0",
  relay: "M5 4h14v6H5zM5 14h14v6H5zM8 7h.01M8 17h.01M12 10v4",
  file: "M6 3.500h8l4.500 4.500v12.500H6zM14 3.500V8h4.500",
  download: "M12 4v11M8 11.500l4 4 4-4M5 20h14",
  speaker: "M4 9.500v5h3.500L12 18.500v-13L7.500 9.500ZM15.500 9a4 4 0 0 1 0 6M18 6.500a8 8 0 0 1 0 11",
  check: "M5 12.500l4.500 4.500L19 7",
  alert: "M12 4 2.500 20h19ZM12 10v4.500M12 17.300v.01",
  info: "M12 3.500a8.500 8.500 0 1 0 0 17 8.500 8.500 0 0 0 0-17ZM12 11v5.500M12 7.700v.01",
};

export function icon(name) {
  const svg = document.createElementNS(SPACE, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SPACE, "path");
  path.setAttribute("d", PATHS[name] ?? "");
  svg.append(path);
  return svg;
}

/** Puts a picture at the start of a button, in the place of the one that it has. */
export function setIcon(node, name) {
  if (node.dataset.icon !== name || !node.querySelector("svg.icon")) {
    node.dataset.icon = name;
    node.querySelector("svg.icon")?.remove();
    node.prepend(icon(name));
  }
}
