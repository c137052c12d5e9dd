// Finds every element whose content does not fit it, its tile or the screen.
(() => {
  const found = [];
  const words = e => (e.closest('.slot')?.id || '') + ' ' + e.tagName + '.' + e.className + ' "' + e.textContent.trim().slice(0, 30) + '"';
  for (const e of document.querySelectorAll('header, header *, main, main *, footer, footer *')) {
    if (e instanceof SVGElement || e.closest('.sr')) continue;
    const style = getComputedStyle(e), r = e.getBoundingClientRect();
    if (r.width === 0 || style.visibility === 'hidden') continue;
    if (style.display !== 'inline' && e.scrollWidth > e.clientWidth + 1) found.push('too wide: ' + words(e) + ' ' + e.scrollWidth + '>' + e.clientWidth);
    if (e.matches('.slot,.in,.bot,header,footer,main,.badges') && e.scrollHeight > e.clientHeight + 2) found.push('too high: ' + words(e) + ' ' + e.scrollHeight + '>' + e.clientHeight);
    const box = (e.closest('.in') || document.body).getBoundingClientRect();
    if (e !== document.body && (r.right > box.right + 1 || r.bottom > box.bottom + 1 || r.left < box.left - 1 || r.top < box.top - 1) && !e.matches('.slot')) found.push('outside: ' + words(e));
    if (r.right > innerWidth + 1 || r.bottom > innerHeight + 1) found.push('off the screen: ' + words(e));
  }
  for (const tile of document.querySelectorAll('.slot')) {
    const parts = ['.top', '.mid strong', '.line', '.badges'].map(s => tile.querySelector(s)).filter(e => e.getBoundingClientRect().height > 0);
    for (let i = 1; i < parts.length; i++)
      // Lines of Chinese leave a fifth of their height free above and below.
      if (parts[i - 1].getBoundingClientRect().bottom > parts[i].getBoundingClientRect().top + 0.2 * parseFloat(getComputedStyle(tile.querySelector('strong')).fontSize)) found.push('over each other: ' + words(parts[i - 1]) + ' and ' + words(parts[i]));
  }
  const order = [...document.querySelectorAll('header > *, footer > *')].filter(e => e.getBoundingClientRect().width > 0);
  for (const a of order) for (const b of order) {
    if (a === b || a.parentElement !== b.parentElement) continue;
    const x = a.getBoundingClientRect(), y = b.getBoundingClientRect();
    if (x.left < y.right - 1 && y.left < x.right - 1 && x.top < y.bottom - 1 && y.top < x.bottom - 1) found.push('over each other: ' + words(a) + ' and ' + words(b));
  }
  return found;
})()
