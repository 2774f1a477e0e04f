import type { Settings } from '../config/schema.ts';
import type { Alert, AlertDesk, RuleStatus } from '../core/alert.ts';
import type { Clock, Scheduler } from '../core/clock.ts';
import { describeError } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import type { RecordWrite, WriteForm } from '../core/settlement.ts';
import type { BatchChanges } from '../detect/changes.ts';
import { Engine } from '../detect/engine.ts';
import type { Rule } from '../detect/rule.ts';
import { describeProblem, type RuleProblem } from '../detect/rule-file.ts';
import { type Subject, WrittenSubject } from '../detect/subject.ts';
import type { Disk } from '../wal/disk.ts';
import { type DetectLog, openDetectLog } from './detect-log.ts';
import { ownAlert, type PipelineNews, subjectOfNews } from './detect-news.ts';
import { loadRules, stampOfRules } from './rule-files.ts';
import type { StageLog } from './stages.ts';

/** Rules at work on what is stored. */
export interface Detect {
  /**
   * To be called with what the store has taken, before the settle journal says so: resolves when all that rules remember of it
   * is durable and its alerts are with the desk. What was seen before counts once, so that a batch may be repeated.
   */
  observe(writes: readonly RecordWrite[]): Promise<void>;
  /** What rules have of a record while it is an object: changes nothing. */
  lookAt(write: RecordWrite): WriteForm;
  /** What the pipeline has to tell of itself, for the rules with `source: pipeline`. Never throws. */
  tell(news: PipelineNews): void;
  rules(): RuleStatus[];
  /** What is wrong with the rule files as they are now; the last good rules are at work then. */
  problems(): readonly string[];
  /** Reads the rule files again. Resolves with what is wrong with them. */
  reload(): Promise<readonly string[]>;
  close(): Promise<void>;
}

export interface DetectOptions {
  readonly settings: Pick<Settings, 'detect' | 'namespace'>;
  /** The data folder. */
  readonly folder: string;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly counters: Counters;
  readonly desk: AlertDesk;
  readonly log: StageLog;
  /** As of DetectLogOptions. */
  readonly logBytesMin?: number;
}

/** Records that are looked at in one turn of the event loop: a few milliseconds, so that senders do not wait. */
const TURN_RECORDS = 500;

const STATES: readonly RuleStatus['state'][] = ['on', 'off', 'failed'];

/** News are tried again after this, when what rules remember or the desk cannot be written. */
const NEWS_RETRY_MS = 5_000;
/** News that wait; a storm of them says nothing more. */
const NEWS_MAX = 1_000;

export async function openDetect(options: DetectOptions): Promise<Detect> {
  const { settings, log } = options;
  const loaded = await loadRules(settings.detect);
  const running = new RunningDetect(options, loaded.rules);
  await running.open();
  if (loaded.problems.length > 0) running.complain(loaded.problems);
  const on = loaded.rules.filter(({ enabled }) => enabled).length;
  log.info({ rules: on, off: loaded.rules.length - on }, 'rules at work');
  return running;
}

class RunningDetect implements Detect {
  readonly #options: DetectOptions;
  readonly #engine: Engine;
  #log: DetectLog | undefined;
  /** One thing after the other: batches, news, reloads. */
  #turn: Promise<unknown> = Promise.resolve();
  /** Not durable yet, because the last try failed. */
  #unlogged: BatchChanges[] = [];
  #ownAlerts: Alert[] = [];
  #news: Subject[] = [];
  #problems: readonly string[] = [];
  #stamp = '';
  /** How many rules were in each state when that was told last. */
  readonly #states = new Map<RuleStatus['state'], number>();
  #cancelLook: (() => void) | undefined;
  #cancelRetry: (() => void) | undefined;
  #isClosed = false;

  constructor(options: DetectOptions, rules: readonly Rule[]) {
    const { latenessMs, groupsMax, entriesMax, termsMax } = options.settings.detect;
    this.#options = options;
    this.#engine = new Engine(rules, {
      limits: { latenessMs, groupsMax, entriesMax, termsMax },
      onFailure: (rule, reason) => this.#ruleFailed(rule, reason),
    });
  }

  async open(): Promise<void> {
    this.#log = await openDetectLog(this.#engine, this.#options);
    this.#stamp = await stampOfRules(this.#options.settings.detect);
    this.#watchFiles();
    // Told by the last run, maybe.
    this.#soon();
  }

  observe(writes: readonly RecordWrite[]): Promise<void> {
    return this.#inTurn(async () => {
      let left = TURN_RECORDS;
      for (let at = 0; at < writes.length; at++) {
        const write = writes[at] as RecordWrite;
        if (left-- === 0) {
          await new Promise<void>((resolve) => this.#options.scheduler.after(0, resolve));
          left = TURN_RECORDS - 1;
        }
        if (!this.#engine.passes(write.form ?? write.seen)) this.#engine.observe(new WrittenSubject(write));
      }
      await this.#settle();
    });
  }

  lookAt(write: RecordWrite): WriteForm {
    return this.#engine.lookAt(new WrittenSubject(write));
  }

  tell(news: PipelineNews): void {
    if (this.#news.length >= NEWS_MAX || this.#isClosed) return;
    const { settings, clock } = this.#options;
    const nowMs = clock.nowMs();
    this.#news.push(subjectOfNews(news, settings.namespace, nowMs));
    this.#soon();
  }

  rules(): RuleStatus[] {
    return this.#engine.statuses();
  }

  problems(): readonly string[] {
    return this.#problems;
  }

  reload(): Promise<readonly string[]> {
    return this.#inTurn(async () => {
      const { settings, log } = this.#options;
      this.#stamp = await stampOfRules(settings.detect);
      const { rules, problems } = await loadRules(settings.detect);
      if (problems.length > 0) {
        this.complain(problems);
        return this.#problems;
      }
      await this.#settle();
      this.#engine.setRules(rules);
      this.#problems = [];
      // Changes are of the rules that the log's first line names.
      await this.#log?.checkpoint(this.#engine, true);
      log.info({ rules: rules.length }, 'rules read again');
      return [];
    });
  }

  /** An alert and a line of the log for what is wrong with rule files; once for the same mistakes. */
  complain(problems: readonly RuleProblem[]): void {
    const lines = problems.map(describeProblem);
    if (lines.join() === this.#problems.join()) return;
    this.#problems = lines;
    const [first = ''] = lines;
    this.#options.log.error({ problems: lines }, 'rule files have mistakes; the last good rules stay at work');
    const more = lines.length > 1 ? ` (and ${lines.length - 1} more)` : '';
    this.#raiseOwn('rules-broken', 'Rule files have mistakes', `${first}${more}`, lines.join('\n'));
    this.tell({ action: 'pipeline.rules_broken', reason: `${first}${more}`, of: 'rules' });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelLook?.();
    this.#cancelRetry?.();
    await this.#turn;
    await this.#log?.checkpoint(this.#engine, true).catch((error: unknown) => {
      this.#options.log.warn({ error }, 'no checkpoint of what rules remember was left: the next start reads its log');
    });
    await this.#log?.close();
  }

  #inTurn<Result>(act: () => Promise<Result>): Promise<Result> {
    const turn = this.#turn.then(act);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  /** The order matters: what changed is durable before the desk knows of it, so that no alert is raised twice in other words. */
  async #settle(): Promise<void> {
    const { desk, clock } = this.#options;
    const changes = this.#engine.takeChanges();
    if (changes !== undefined) this.#unlogged.push(changes);
    if (this.#unlogged.length > 0) {
      await this.#log?.append(this.#unlogged);
      this.#unlogged = [];
    }
    const alerts = [...this.#engine.alerts(clock.nowMs()), ...this.#ownAlerts];
    if (alerts.length > 0) {
      await desk.raise(alerts);
      this.#engine.forgetAlerts();
      this.#ownAlerts = [];
    }
    this.#count();
    await this.#log?.checkpoint(this.#engine);
  }

  /** News and alerts that nobody waits for. */
  #soon(): void {
    void this.#inTurn(async () => {
      const news = this.#news;
      this.#news = [];
      for (const subject of news) this.#engine.observe(subject);
      await this.#settle();
    }).catch((error: unknown) => {
      this.#options.log.warn({ reason: describeError(error) }, 'alerts could not be told, will be tried again');
      this.#cancelRetry?.();
      if (!this.#isClosed) this.#cancelRetry = this.#options.scheduler.after(NEWS_RETRY_MS, () => this.#soon());
    });
  }

  #ruleFailed(rule: Rule, reason: string): void {
    this.#options.log.error({ rule: rule.id, reason }, 'a rule failed and is off until rules are read again');
    this.#raiseOwn(
      'rule-failed',
      'A rule failed',
      `rule ${rule.id} failed and is off: ${reason}`,
      `${rule.id} ${reason}`,
    );
  }

  #raiseOwn(id: string, name: string, reason: string, of: string): void {
    const { settings, clock } = this.#options;
    this.#ownAlerts.push(ownAlert({ id, name, reason, of, namespace: settings.namespace, nowMs: clock.nowMs() }));
    this.#soon();
  }

  #watchFiles(): void {
    const { scheduler, settings, log } = this.#options;
    const look = async () => {
      const stamp = await stampOfRules(settings.detect).catch(() => this.#stamp);
      if (stamp !== this.#stamp) await this.reload();
    };
    const wait = () => {
      if (this.#isClosed) return;
      this.#cancelLook = scheduler.after(settings.detect.rules.reloadMs, () => {
        look()
          .catch((error: unknown) => log.warn({ error }, 'rule files could not be looked at'))
          .finally(wait);
      });
    };
    wait();
  }

  #count(): void {
    const { counters } = this.#options;
    this.#engine.takeCounts((rule, name, more) => counters.add(`rule_${name}`, more, { rule }));
    for (const state of STATES) {
      const count = this.#engine.count(state);
      if (count !== this.#states.get(state)) counters.set('rules', count, { state });
      this.#states.set(state, count);
    }
  }
}
