export interface Session { session: string; expires_in: number; openid: string; users: Record<string, string>; is_new: boolean }
export interface Balance { template_id: string; credits: number; long_term: boolean; status: 'accepted' | 'rejected' | 'cancelled' | 'unknown'; ask: boolean }
export interface Options {
  /** The gateway: https://your.host */
  url: string
  /** The app's name in the gateway's config. */
  app: string
  /** wx or uni; found by itself. */
  platform?: any
  /** Templates of one dialog: 5, or 3 for old versions of WeChat. */
  perCall?: number
  /** Milliseconds of one request; 10000. */
  timeout?: number
}
export interface Relay {
  login(): Promise<Session>
  balances(templateIds?: string[]): Promise<Balance[]>
  /** Balances, read before a tap so that subscribe knows what is worth asking. */
  prepare(templateIds?: string[]): Promise<Balance[]>
  worthAsking(templateIds: string[]): string[]
  /** Call it in the handler of a tap. null when nothing was worth asking. */
  subscribe(templateIds: string[]): Promise<Record<string, string> | null>
  flush(): Promise<void>
  settings(): Promise<Balance[]>
  bind(ticket: string): Promise<unknown>
  phone(code: string): Promise<{ ok: boolean; phoneNumber?: string }>
  logout(all?: boolean): Promise<void>
  session(): Session | null
}
export class RelayError extends Error { status: number; code: string; retryAfter: number }
export function createRelay(options: Options): Relay
