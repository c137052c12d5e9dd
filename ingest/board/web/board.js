// The page at the dock: one stream of events, which changes what is shown. Its rule: an
// old "safe" must never stay on the screen. The page is covered from the start, until
// the first tick; and again when nothing was heard for STALE_MS, when a frame is
// missing, and when anything here fails.
const STALE_MS = 5000;
const FORCE_MS = 60000; // covered for so long: load everything anew
const $ = id => document.getElementById(id);
const parser = new DOMParser();
const stale = $('stale');
let stream, boot, seq, last = performance.now(), covered = 0;

function cover() {
  if (stale.hidden || stale.classList.contains('waiting')) covered ||= performance.now();
  stale.classList.remove('waiting');
  stale.hidden = false;
}

function alive() {
  last = performance.now();
  covered = 0;
  stale.hidden = true;
}

function all(data) {
  const slots = parser.parseFromString(data.html, 'text/html').body;
  $('slots').className = data.grid;
  $('slots').replaceChildren(...slots.children);
}

function slot(data) {
  const old = $('s' + data.i), fresh = parser.parseFromString(data.html, 'text/html').body.firstElementChild;
  if (old.dataset.state !== fresh.dataset.state)
    $('announce').textContent = ['.no', '.who b', 'strong'].map(part => fresh.querySelector(part).textContent).join(' ');
  old.replaceWith(fresh);
}

function progress([i, percent, left]) {
  const tile = $('s' + i), bar = tile.querySelector('.bar');
  tile.querySelector('.pct').textContent = percent + '%';
  tile.querySelector('.eta').textContent = left;
  bar.setAttribute('aria-valuenow', percent);
  bar.querySelector('rect').setAttribute('width', percent + '%');
}

function tick(data) {
  if (boot && data.boot !== boot) return location.reload(); // another program: take its page
  if (seq !== undefined && data.seq !== seq + 1) return open(); // a frame is missing
  boot = data.boot;
  seq = data.seq;
  data.progress.forEach(progress);
  for (const kind in data.counts) {
    $('n-' + kind).textContent = data.counts[kind];
    if (kind === 'back') $('n-back').parentElement.hidden = data.counts.back === 0;
  }
  for (const id of ['clock', 'trust', 'free', 'days', 'more']) $(id).textContent = data[id];
  $('trust').classList.toggle('warn', !data.synced);
  alive();
}

// A failure while something is put on the screen leaves it half old.
function guarded(change) {
  return event => {
    try {
      change(JSON.parse(event.data));
    } catch (failure) {
      console.error(failure);
      broken();
    }
  };
}

function broken() {
  stream.close();
  cover();
  last = -Infinity;
  setTimeout(() => location.reload(), 3000);
}

function open() {
  stream?.close();
  seq = undefined;
  stream = new EventSource('/events?lang=' + document.documentElement.lang);
  for (const [name, change] of Object.entries({ all, slot, tick })) stream.addEventListener(name, guarded(change));
  stream.addEventListener('error', () => { seq = undefined; }); // what comes next is everything anew
}

function check() {
  const now = performance.now();
  if (now - last <= STALE_MS) return;
  cover();
  // A browser opens a stream again that broke, but not one that was answered with
  // anything but events, such as the 502 of a proxy.
  if (stream.readyState === EventSource.CLOSED) open();
  // What is behind the page may have changed beyond what a stream can tell. It is asked
  // first: a page that can't be loaded would leave the screen to the browser.
  if (covered && now - covered > FORCE_MS) {
    covered = now;
    fetch('/', { method: 'HEAD', cache: 'no-store' }).then(answer => { if (answer.ok) location.reload(); }, () => {});
  }
}

open();
setInterval(check, 500);
document.addEventListener('visibilitychange', check);
addEventListener('pageshow', event => { if (event.persisted) location.reload(); });
