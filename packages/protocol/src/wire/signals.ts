/** Linux's signal numbers, the same on x86-64 and arm64 (signal(7)). */
export const LINUX_SIGNALS = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGTRAP: 5,
  SIGABRT: 6,
  SIGBUS: 7,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGSTKFLT: 16,
  SIGCHLD: 17,
  SIGCONT: 18,
  SIGSTOP: 19,
  SIGTSTP: 20,
  SIGTTIN: 21,
  SIGTTOU: 22,
  SIGURG: 23,
  SIGXCPU: 24,
  SIGXFSZ: 25,
  SIGVTALRM: 26,
  SIGPROF: 27,
  SIGWINCH: 28,
  SIGIO: 29,
  SIGPWR: 30,
  SIGSYS: 31,
} as const;

const NUMBERS: ReadonlyMap<string, number> = new Map(Object.entries(LINUX_SIGNALS));
const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(LINUX_SIGNALS).map(([name, number]) => [number, name]));

/** As `docker kill` reads it: "SIGTERM", "term" or "15". null where it is none; 1 to 64 as numbers. */
export const parseSignal = (text: string): number | null => {
  if (/^\d{1,2}$/.test(text)) {
    const number = Number(text);
    return number >= 1 && number <= 64 ? number : null;
  }
  const name = text.toUpperCase();
  return NUMBERS.get(name.startsWith("SIG") ? name : `SIG${name}`) ?? null;
};

/** "SIGKILL"; a real-time signal is "SIG40". */
export const signalName = (number: number): string => NAMES.get(number) ?? `SIG${number}`;
