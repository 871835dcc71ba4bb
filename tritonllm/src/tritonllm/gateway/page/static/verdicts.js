// What guardrail rules did, as elements.

const WORDS = {Block: "blocked", Mask: "masked", Flag: "flagged"};

export function element(name, properties = {}, ...children) {
  const found = Object.assign(document.createElement(name), properties);
  found.append(...children);
  return found;
}

/** A list item for each rule that matched. */
export function chips(verdicts) {
  return verdicts.map(({rule, action, count}) => {
    const times = count ? ` ${count} ${count === 1 ? "match" : "matches"}` : "";
    const name = element("span", {className: "rule", textContent: rule});
    return element("li", {className: `chip ${action.toLowerCase()}`}, name, ` ${WORDS[action] ?? action}${times}`);
  });
}

/**
 * Marks what was masked in a text.
 *
 * Without the original, only replacements of the usual form can be found, such as [REDACTED].
 */
export function marked(text, original) {
  const parts = original === undefined ? usual(text) : compared(text, original);
  return parts.filter(([part]) => part).map(([part, masked]) => (masked ? element("mark", {textContent: part}) : part));
}

function usual(text) {
  return text.split(/(\[\p{Lu}[\p{Lu}\p{N} _-]*\])/u).map((part, index) => [part, index % 2 === 1]);
}

/** The parts of a text, each with whether the original lacks it: a longest common subsequence of words. */
function compared(text, original) {
  const [after, before] = [words(text), words(original)];
  // The table has this many cells; a longer text is marked like one without its original.
  if (after.length * before.length > 4_000_000) return usual(text);
  const width = before.length + 1;
  const table = new Uint16Array((after.length + 1) * width);
  for (let i = after.length - 1; i >= 0; i--) {
    for (let j = before.length - 1; j >= 0; j--) {
      const at = i * width + j;
      table[at] = after[i] === before[j] ? table[at + width + 1] + 1 : Math.max(table[at + width], table[at + 1]);
    }
  }
  const parts = [];
  for (let i = 0, j = 0; i < after.length; ) {
    const at = i * width + j;
    const same = after[i] === before[j];
    if (same || j === before.length || table[at + width] >= table[at + 1]) {
      const last = parts.at(-1);
      if (last && last[1] === !same) last[0] += after[i];
      else parts.push([after[i], !same]);
      i++;
      if (same) j++;
    } else j++;
  }
  return parts;
}

function words(text) {
  return text.match(/[\p{L}\p{N}]+|[^\p{L}\p{N}]/gu) ?? [];
}
