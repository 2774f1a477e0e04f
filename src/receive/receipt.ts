/** Why an event or an item of a webhook was refused: the values of the label `reason`, and `code` in the receipt. */
export type RejectCode =
  | 'actor_missing'
  | 'action_missing'
  /** Further ahead of our clock than clocks go wrong. */
  | 'time_in_future'
  /** A text, an attribute or an id. */
  | 'too_large'
  /** Events in a request, attributes or checks in an event. */
  | 'too_many'
  /** A value that its field does not take. */
  | 'invalid'
  /** An attribute with a name of ours. */
  | 'reserved'
  /** The id of another event of the same request, with another content. */
  | 'repeated_id'
  /** Not the protobuf message it should be. */
  | 'undecodable'
  | 'not_json'
  /** A webhook whose signature or secret is not there, is wrong, or is too old. */
  | 'signature_missing'
  | 'signature_wrong'
  | 'signature_expired'
  | 'unknown_preset';

export interface RejectedEvent {
  /** In the request, from 0. */
  readonly index: number;
  /** The event's own id, where it could be read. */
  readonly id: string;
  readonly field: string;
  readonly code: RejectCode;
  readonly reason: string;
}

/** About an event that was accepted, or about all when there is no index. */
export interface ReceiptWarning {
  readonly index?: number;
  readonly field: string;
  readonly reason: string;
}

/** What became of the events of one request. Those accepted are durable. */
export interface Receipt {
  readonly accepted: number;
  /** Left out because the same event is in the request already. */
  readonly repeated: number;
  readonly rejected: readonly RejectedEvent[];
  /** All of them; only the first are listed. */
  readonly rejectedCount: number;
  readonly warnings: readonly ReceiptWarning[];
}

/** Entries of each kind that a receipt lists, and characters in all of them: clients of gRPC take answers of 4 MiB. */
export const RECEIPT_ITEMS_MAX = 1000;
const RECEIPT_CHARS_MAX = 1_000_000;
/** Longest text in one of them, in characters. */
const TEXT_CHARS_MAX = 500;

/** Makes a receipt as events go by. */
export class ReceiptWriter {
  accepted = 0;
  repeated = 0;
  rejectedCount = 0;
  #chars = 0;
  readonly #rejected: RejectedEvent[] = [];
  readonly #warnings: ReceiptWarning[] = [];

  reject({ id, field, reason, ...event }: RejectedEvent): void {
    this.rejectedCount += 1;
    if (this.#rejected.length >= RECEIPT_ITEMS_MAX || this.#chars > RECEIPT_CHARS_MAX) return;
    this.#rejected.push({
      ...event,
      id: this.#shorten(id),
      field: this.#shorten(field),
      reason: this.#shorten(reason),
    });
  }

  warn({ field, reason, ...warning }: ReceiptWarning): void {
    if (this.#warnings.length >= RECEIPT_ITEMS_MAX || this.#chars > RECEIPT_CHARS_MAX) return;
    this.#warnings.push({ ...warning, field: this.#shorten(field), reason: this.#shorten(reason) });
  }

  receipt(): Receipt {
    const { accepted, repeated, rejectedCount } = this;
    return { accepted, repeated, rejected: this.#rejected, rejectedCount, warnings: this.#warnings };
  }

  #shorten(text: string): string {
    const short = text.length <= TEXT_CHARS_MAX ? text : `${text.slice(0, TEXT_CHARS_MAX - 1).toWellFormed()}…`;
    this.#chars += short.length;
    return short;
  }
}
