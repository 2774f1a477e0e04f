import type { Span } from './evidence.ts';

/**
 * The same function, which remembers its answers by the span's content: most spans say what others said before. For functions that
 * look at nothing of a span but its content and what its sender is trusted with, and put nothing else of it into the answer.
 * Answers are shared, so they are frozen.
 */
export function byContent<Rules extends object, Answer>(
  compute: (span: Span, rules: Rules) => Answer,
): (span: Span, rules: Rules) => Answer {
  const known = new WeakMap<object, { readonly rules: Rules; readonly answer: Answer }>();
  return (span, rules) => {
    const { content } = span;
    if (content === undefined) return compute(span, rules);
    const before = known.get(content);
    if (before !== undefined && before.rules === rules) return before.answer;
    const answer = frozen(compute(span, rules));
    known.set(content, { rules, answer });
    return answer;
  };
}

/** Frozen through objects and lists. What others hold that are no plain data stays as it is. */
function frozen<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  if (!Array.isArray(value) && Object.getPrototypeOf(value) !== Object.prototype) return value;
  Object.freeze(value);
  for (const part of Object.values(value)) frozen(part);
  return value;
}
