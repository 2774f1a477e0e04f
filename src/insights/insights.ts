import { formatTimestamp } from '../core/clock.ts';
import { INSIGHTS, type Insight, type InsightName } from '../core/insight.ts';
import type { Store } from '../store/port.ts';
import { checks } from './checks.ts';
import { pressure } from './pressure.ts';
import type { Asks, Question } from './question.ts';
import { permissions, targets } from './roles.ts';
import { sensitive } from './sensitive.ts';
import { slowest } from './slowest.ts';
import { statements } from './statements.ts';

const ASKS: Asks = { permissions, targets, sensitive, checks, statements, pressure, slowest };

/** One insight over what the store holds. The same records give the same answer on every store. */
export async function askInsight(name: InsightName, store: Store, question: Question): Promise<Insight> {
  const { fromNs, toNs } = question.selection;
  return {
    name,
    title: INSIGHTS[name],
    from: formatTimestamp(fromNs),
    to: formatTimestamp(toNs),
    ...(await ASKS[name](store, question)),
  };
}
