/* Texts as the API counts them, in Unicode code points, and as people read them, in words. */

/** Part of a text, `begin` and `end` in code points. */
export const part = (text, begin, end) => Array.from(text).slice(begin, end).join("");

/** How many code points a text has. */
export const codePoints = (text) => Array.from(text).length;

const WORDS = /[\p{L}\p{N}\p{M}]+(?:['’-][\p{L}\p{N}\p{M}]+)*|[^\s\p{L}\p{N}\p{M}]+/gu;

/** Words and runs of other signs, as [begin, end) in UTF-16 units, as JavaScript slices. */
export const words = (text) =>
  Array.from(text.matchAll(WORDS), (found) => [found.index, found.index + found[0].length]);

/**
 * A translation as the parts that were decoded for themselves.
 * Each part: `source`, `target`, and `before`, what stands between the part before and this one in the translation.
 */
export function partsOf(source, text, segments) {
  if (segments.length <= 1) return { parts: [{ source, target: text, before: "", copied: false }], after: "" };
  let at = 0;
  const parts = segments.map((segment) => {
    const begin = segment.target_begin ?? 0;
    const found = {
      source: part(source, segment.source_begin ?? 0, segment.source_end ?? 0),
      target: part(text, begin, segment.target_end ?? 0),
      before: part(text, at, begin),
      copied: segment.copied ?? false,
    };
    at = segment.target_end ?? 0;
    return found;
  });
  return { parts, after: part(text, at) };
}

export const joined = ({ parts, after }) => parts.map((each) => each.before + each.target).join("") + after;

/** Places of the linked words in code points, and of the words between them that have no link. */
export function wordsWithLinks(text, links) {
  const points = Array.from(text);
  const linked = [...new Map(links.map((place) => [place.join(), place])).values()].sort((a, b) => a[0] - b[0]);
  const found = [];
  let before = 0;
  for (const [begin, end] of [...linked, [points.length, points.length]]) {
    for (const gap of points.slice(before, begin).join("").matchAll(/\S+/gu)) {
      const from = before + codePoints(points.slice(before, begin).join("").slice(0, gap.index));
      found.push([from, from + codePoints(gap[0])]);
    }
    if (begin < end) found.push([begin, end]);
    before = end;
  }
  return found;
}
