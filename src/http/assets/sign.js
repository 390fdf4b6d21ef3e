// One sign, as large as the screen. It follows the signs' stream, which beats every two seconds.
"use strict";

// Three beats missed: the gateway is silent, and what is shown may no longer hang there.
const LOST_AFTER_MS = 6500;

const at = (id) => document.getElementById(id);
const wanted = decodeURIComponent(location.pathname.split("/").pop());

let heard = 0;
let stream = null;
let retry = 0;

// The largest size at which the face fits its box, in a few halvings.
function fit() {
  const face = at("big-face");
  const [width, height] = [face.clientWidth * 0.92, face.clientHeight * 0.92];
  let [low, high] = [16, Math.max(32, height)];
  const range = document.createRange();
  range.selectNodeContents(face);
  while (high - low > 2) {
    const middle = (low + high) / 2;
    face.style.fontSize = `${middle}px`;
    const box = range.getBoundingClientRect();
    if (box.width <= width && box.height <= height) low = middle;
    else high = middle;
  }
  face.style.fontSize = `${low}px`;
}

function draw(sign) {
  const face = at("big-face");
  face.className = typeof sign.face === "string" ? sign.face : Object.keys(sign.face)[0];
  const arrow = { left: "←", straight: "↑", right: "→" }[sign.face.arrow];
  face.textContent = arrow || sign.shows || "dark";
  document.title = `${sign.shows || "dark"} · ${sign.name}`;
  at("about").textContent = `${sign.name} · ${sign.id}`;
  at("state").dataset.source = sign.source;
  at("state").dataset.mode = sign.mode;
  at("state").dataset.confirmed = sign.confirmed;
  fit();
  lost();
}

function lost() {
  const silent = Date.now() - heard;
  const stale = heard > 0 && (silent > LOST_AFTER_MS || stream.readyState !== EventSource.OPEN);
  document.body.classList.toggle("stale", stale);
  const { source, mode, confirmed } = at("state").dataset;
  const who = { operator: `set to ${mode} by staff`, automatic: "live" }[source] ?? source;
  const calm = confirmed === "false" ? `${who}, not confirmed by the display` : who;
  const since = new Date(heard).toLocaleTimeString("en-GB");
  if (stale) at("state").textContent = `No contact with the gateway since ${since}`;
  else at("state").textContent = heard ? calm : "";
}

function listen() {
  stream = new EventSource("/v1/signs/stream");
  stream.addEventListener("beat", () => {
    heard = Date.now();
    lost();
  });
  stream.addEventListener("sign", (event) => {
    heard = Date.now();
    const sign = JSON.parse(event.data);
    if (sign.id === wanted) draw(sign);
  });
  stream.addEventListener("error", () => {
    lost();
    if (stream.readyState === EventSource.CLOSED) {
      clearTimeout(retry);
      retry = setTimeout(listen, 2000);
    }
  });
}

listen();
setInterval(lost, 500);
addEventListener("resize", fit);
