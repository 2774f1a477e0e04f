import type { ErrorAnswer } from '../api/contract.ts';
import { AppError, ERROR_CODES, type ErrorCode } from '../core/errors.ts';

/** Where the running Spantrail answers, e.g. `http://127.0.0.1:4320`. */
export interface Client {
  get<T>(path: string, parameters?: Parameters): Promise<T>;
  /** The raw answer, for streams. */
  open(path: string, parameters?: Parameters, signal?: AbortSignal): Promise<Response>;
}

export type Parameters = Readonly<Record<string, string | number | boolean | undefined>>;

/** Throws AppError: `unavailable` when nothing answers, else with the code and words of the server. */
export function createClient(baseUrl: string): Client {
  const open = async (path: string, parameters: Parameters = {}, signal?: AbortSignal): Promise<Response> => {
    const url = new URL(path, baseUrl);
    for (const [name, value] of Object.entries(parameters)) {
      if (value !== undefined && value !== '') url.searchParams.set(name, String(value));
    }
    let response: Response;
    try {
      response = await fetch(url, signal ? { signal } : {});
    } catch (cause) {
      if (signal?.aborted) throw cause;
      throw new AppError(
        'unavailable',
        `no Spantrail answers at ${baseUrl}; start one with "spantrail serve" or name another with --url`,
        { cause },
      );
    }
    if (!response.ok) throw await toError(response);
    return response;
  };
  return {
    open,
    get: async <T>(path: string, parameters?: Parameters) => (await (await open(path, parameters)).json()) as T,
  };
}

async function toError(response: Response): Promise<AppError> {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text) as ErrorAnswer;
    return new AppError(error.code in ERROR_CODES ? (error.code as ErrorCode) : 'internal', error.message);
  } catch {
    return new AppError('internal', `the server answered ${response.status}: ${text.slice(0, 200)}`);
  }
}
