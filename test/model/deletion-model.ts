/**
 * A model of the protocol of `docs/repository-format.md`, sections 12, 14 and 15: writers, collectors and people
 * who delete and bring back, each a generator that yields before every operation on the store. A schedule is a
 * seed: it says who goes on next, who is killed where, which listing misses which name, which name others see
 * late. After every removal, and in the end, each version that is not gone must have all its chunks.
 *
 * `Rules` switches single steps of the protocol off: a model that cannot fail proves nothing.
 */

export interface Rules {
  /** The session publishes its record before it looks what is announced. */
  recordBeforeLook: boolean;
  /** The collector lists sessions after the announcement, and waits for them. */
  waitForSessions: boolean;
  /** Sessions are read before points. */
  sessionsBeforePoints: boolean;
  /** Points and sessions are listed twice. */
  listTwice: boolean;
  /** A silent session is fenced under its point's name, not just given up. */
  fence: boolean;
  /** The session looks once more before it commits, and both sides decide under one name. */
  claim: boolean;
  /** Each point that records of a session name is waited for or fenced, not only that of the newest. */
  everyPointOfSession: boolean;
  /** Announcements are read before packs are listed: what goes in between is seen to be gone. */
  listsBeforePacks: boolean;
  /** Who decides about a list looks whether it is still there: a verdict is removed after its list. */
  listStillThere: boolean;
  /** It is marked again after the wait. */
  markAgain: boolean;
  /** A session whose records are gone is over only when its point can be seen. */
  pointOfVanished: boolean;
  /** Copies in packs that others have announced do not count. */
  distrustAnnounced: boolean;
  /** After the announcement the collector lets twice the time pass after which everybody sees every name. */
  settle: boolean;
  /** Only lists that were seen before that time are decided. */
  listsBeforeSettling: boolean;
  /** Pages and chunks of a base are stored again where they do not count any more. */
  takeOverBase: boolean;
}

export const ALL_RULES: Rules = {
  recordBeforeLook: true,
  waitForSessions: true,
  sessionsBeforePoints: true,
  listTwice: true,
  fence: true,
  claim: true,
  everyPointOfSession: true,
  listsBeforePacks: true,
  listStillThere: true,
  markAgain: true,
  pointOfVanished: true,
  distrustAnnounced: true,
  settle: true,
  listsBeforeSettling: true,
  takeOverBase: true,
};

/** What may go wrong in a schedule. */
export interface Faults {
  kills: number;
  /** Listings that leave one name out, in all. */
  misses: number;
  /** Names that others see late, in all. */
  late: number;
}

export interface Outcome {
  /** Null: every version that is not gone is whole. */
  violation: string | null;
  steps: number;
  committed: number;
  removedPacks: number;
  fences: number;
  vetoes: number;
  purges: number;
}

type Value =
  | { kind: 'record'; pointId: string; needs: readonly number[] }
  | { kind: 'pack'; chunks: readonly number[] }
  | { kind: 'point'; chunks: readonly number[] }
  | { kind: 'fence' }
  | { kind: 'mark'; verb: 'delete' | 'restore' | 'purge' }
  | { kind: 'list'; packs: readonly string[] }
  | { kind: 'verdict'; packs: readonly string[] | null };

interface File {
  value: Value;
  by: number;
  visibleAt: number;
}

type Process = Generator<undefined, void, undefined>;

const CHUNKS = 4;
const POLLS = 4;
const LATE_STEPS = 40;
const STEPS_MAX = 4000;

/** Mulberry32: small, fast, good enough to choose with. */
function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

export function runSchedule(seed: number, rules: Rules, faults: Faults): Outcome {
  return new World(seed, rules, faults).run();
}

class World {
  readonly #random: () => number;
  readonly #rules: Rules;
  readonly #faults: Faults;
  readonly #files = new Map<string, File>();
  readonly #outcome: Outcome = {
    violation: null,
    steps: 0,
    committed: 0,
    removedPacks: 0,
    fences: 0,
    vetoes: 0,
    purges: 0,
  };
  /** Whether others may see names late: a network's file system, as opposed to a local one. */
  readonly #isSlowToShow: boolean;
  #actor = -1;
  #names = 0;

  constructor(seed: number, rules: Rules, faults: Faults) {
    this.#random = createRandom(seed);
    this.#rules = rules;
    this.#faults = { ...faults };
    this.#isSlowToShow = faults.late > 0;
  }

  run(): Outcome {
    // What is there in the beginning: one or two versions and perhaps waste.
    this.#seedStore();
    const processes: (Process | null)[] = [];
    const writers = 1 + this.#below(3);
    for (let number = 0; number < writers; number += 1) processes.push(this.#writer(`s${number % 2}`));
    const collectors = 1 + this.#below(2);
    for (let number = 0; number < collectors; number += 1) processes.push(this.#collector());
    processes.push(this.#person());
    this.#interleave(processes);
    // When all is quiet, a collection without faults must end well, and leave no version broken.
    this.#faults.kills = this.#faults.misses = this.#faults.late = 0;
    this.#outcome.steps += LATE_STEPS;
    this.#interleave([this.#collector()]);
    this.#assertWhole('in the end');
    return this.#outcome;
  }

  #seedStore(): void {
    const first = [0, 1];
    this.#put('pack/p0', { kind: 'pack', chunks: first });
    this.#put('point/old', { kind: 'point', chunks: first });
    if (this.#chance(0.6)) {
      this.#put('pack/p1', { kind: 'pack', chunks: [2] });
      this.#put('point/two', { kind: 'point', chunks: [1, 2] });
    }
    if (this.#chance(0.5)) this.#put('mark/old/0', { kind: 'mark', verb: 'delete' });
    if (this.#chance(0.3)) this.#put('pack/p2', { kind: 'pack', chunks: [this.#below(CHUNKS)] });
  }

  #interleave(processes: (Process | null)[]): void {
    let running = processes.length;
    while (running > 0 && this.#outcome.violation === null) {
      let at = this.#below(processes.length);
      while (processes[at] === null) at = (at + 1) % processes.length;
      // In bursts: schedules in which one goes on for a while are as likely as those that change often.
      const burst = this.#chance(0.3) ? 1 + this.#below(25) : 1;
      for (let turn = 0; turn < burst && processes[at] !== null; turn += 1) {
        this.#outcome.steps += 1;
        if (this.#outcome.steps > STEPS_MAX) {
          this.#outcome.violation = 'it does not end';
          return;
        }
        this.#actor = at;
        const isKilled = this.#faults.kills > 0 && this.#chance(0.01);
        if (isKilled) this.#faults.kills -= 1;
        if (isKilled || processes[at]?.next().done === true) {
          processes[at] = null;
          running -= 1;
        }
      }
    }
  }

  // The store.

  #put(name: string, value: Value): boolean {
    if (this.#files.has(name)) return false;
    let visibleAt = this.#outcome.steps;
    if (this.#faults.late > 0 && this.#chance(0.05)) {
      this.#faults.late -= 1;
      visibleAt += 1 + this.#below(LATE_STEPS);
    }
    this.#files.set(name, { value, by: this.#actor, visibleAt });
    return true;
  }

  #sees(file: File | undefined): file is File {
    return file !== undefined && (file.by === this.#actor || file.visibleAt <= this.#outcome.steps);
  }

  #get(name: string): Value | null {
    const file = this.#files.get(name);
    return this.#sees(file) ? file.value : null;
  }

  #list(folder: string): string[] {
    const names: string[] = [];
    for (const [name, file] of this.#files) if (name.startsWith(folder) && this.#sees(file)) names.push(name);
    if (this.#faults.misses > 0 && names.length > 0 && this.#chance(0.08)) {
      this.#faults.misses -= 1;
      names.splice(this.#below(names.length), 1);
    }
    return names;
  }

  *#listSurely(folder: string): Generator<undefined, Set<string>, undefined> {
    yield;
    const names = new Set(this.#list(folder));
    if (this.#rules.listTwice) {
      yield;
      for (const name of this.#list(folder)) names.add(name);
    }
    return names;
  }

  // A session.

  *#writer(session: string): Process {
    const folder = `session/${session}/`;
    yield;
    const old = this.#list(folder).sort();
    const last = old.length === 0 ? null : this.#get(old.at(-1) ?? '');
    let pointId = `v${this.#name()}`;
    let needs = new Set<number>();
    if (last?.kind === 'record') {
      yield;
      if (this.#get(`point/${last.pointId}`) === null) {
        pointId = last.pointId;
        needs = new Set(last.needs);
      } else old.forEach((name) => this.#files.delete(name));
    }
    const records = [...old];
    const publishRecord = (): void => {
      const name = `${folder}${String(this.#name()).padStart(6, '0')}`;
      this.#put(name, { kind: 'record', pointId, needs: [...needs] });
      for (const before of records.splice(0)) this.#files.delete(before);
      records.push(name);
    };
    if (this.#rules.recordBeforeLook) {
      yield;
      publishRecord();
    }
    const look = yield* this.#look();
    if (!this.#rules.recordBeforeLook) {
      yield;
      publishRecord();
    }
    const builtOn = new Set<string>();
    const base = yield* this.#chooseBase();
    const takenOver = yield* this.#takeOver(base ?? [], look, builtOn);
    if (takenOver === null) return;
    // A checkpoint that cannot be taken over is not gone on from.
    if ((yield* this.#takeOver([...needs], look, builtOn)) === null) needs.clear();
    for (const chunk of takenOver) needs.add(chunk);

    for (let part = 0; part < 2; part += 1) {
      const fresh: number[] = [];
      for (let chunk = 0; chunk < CHUNKS; chunk += 1) {
        if (!this.#chance(0.4)) continue;
        needs.add(chunk);
        // What it knows is from its look in the beginning, however much later this is.
        const pack = look.places.get(chunk)?.find((one) => !look.announced.has(one));
        if (pack === undefined) fresh.push(chunk);
        else builtOn.add(pack);
      }
      if (fresh.length > 0) {
        yield;
        const pack = `pack/w${this.#name()}`;
        this.#put(pack, { kind: 'pack', chunks: fresh });
        builtOn.add(pack);
        for (const chunk of fresh) look.places.set(chunk, [pack]);
      }
      if (this.#chance(0.4)) {
        yield;
        publishRecord();
      }
    }
    if (this.#rules.claim && !(yield* this.#claim([...needs], builtOn))) return;
    yield;
    if (!this.#put(`point/${pointId}`, { kind: 'point', chunks: [...needs] })) return;
    this.#outcome.committed += 1;
    for (const name of records) {
      yield;
      this.#files.delete(name);
    }
  }

  *#look(): Generator<undefined, { places: Map<number, string[]>; announced: Set<string> }, undefined> {
    const announced = new Set<string>();
    const places = new Map<number, string[]>();
    const lookAtLists = function* (world: World): Process {
      yield;
      for (const name of world.#list('condemned/')) {
        yield;
        const value = world.#get(name);
        if (value?.kind === 'list') for (const pack of value.packs) announced.add(pack);
      }
    };
    if (this.#rules.listsBeforePacks) yield* lookAtLists(this);
    yield;
    for (const name of this.#list('pack/')) {
      const value = this.#get(name);
      if (value?.kind !== 'pack') continue;
      for (const chunk of value.chunks) places.set(chunk, [...(places.get(chunk) ?? []), name]);
    }
    if (!this.#rules.listsBeforePacks) yield* lookAtLists(this);
    return { places, announced };
  }

  *#chooseBase(): Generator<undefined, readonly number[] | null, undefined> {
    if (!this.#chance(0.5)) return null;
    yield;
    const points = this.#list('point/');
    const name = points[this.#below(Math.max(1, points.length))];
    const value = name === undefined ? null : this.#get(name);
    if (name === undefined || value?.kind !== 'point') return null;
    yield;
    return this.#fateOf(name.slice('point/'.length)).shown ? value.chunks : null;
  }

  /** Null: something of it is lost, so the session ends. */
  *#takeOver(
    chunks: readonly number[],
    look: { places: Map<number, string[]>; announced: Set<string> },
    builtOn: Set<string>,
  ): Generator<undefined, readonly number[] | null, undefined> {
    for (const chunk of chunks) {
      const places = look.places.get(chunk) ?? [];
      const sound = this.#rules.takeOverBase ? places.find((pack) => !look.announced.has(pack)) : places[0];
      if (sound !== undefined) {
        builtOn.add(sound);
        continue;
      }
      yield;
      if (!places.some((pack) => this.#get(pack) !== null)) return null;
      const pack = `pack/w${this.#name()}`;
      this.#put(pack, { kind: 'pack', chunks: [chunk] });
      builtOn.add(pack);
    }
    return chunks;
  }

  *#claim(needs: readonly number[], builtOn: ReadonlySet<string>): Generator<undefined, boolean, undefined> {
    let isCertain = true;
    const lookAtPacks = (): void => {
      if (![...builtOn].every((pack) => this.#get(pack) !== null)) isCertain = false;
    };
    yield;
    if (!this.#rules.listsBeforePacks) lookAtPacks();
    yield;
    const lists = this.#list('condemned/');
    const read: [string, Value | null][] = [];
    for (const name of lists) {
      yield;
      read.push([name, this.#get(name)]);
    }
    yield;
    if (this.#rules.listsBeforePacks) lookAtPacks();
    for (const [name, list] of read) {
      yield;
      if (list?.kind !== 'list' || !list.packs.some((pack) => builtOn.has(pack))) continue;
      yield;
      const verdict = this.#settle(name, null);
      yield;
      if (this.#rules.listStillThere && this.#get(name) === null) isCertain = false;
      else if (verdict === null) this.#outcome.vetoes += 1;
      else if (verdict.some((pack) => builtOn.has(pack))) isCertain = false;
    }
    if (isCertain) return true;
    const { places, announced } = yield* this.#look();
    return needs.every((chunk) => places.get(chunk)?.some((pack) => !announced.has(pack)));
  }

  /** The first one under the name has decided. */
  #settle(list: string, packs: readonly string[] | null): readonly string[] | null {
    const name = `verdict/${list.slice('condemned/'.length)}`;
    if (this.#put(name, { kind: 'verdict', packs })) return packs;
    const value = this.#files.get(name)?.value;
    return value?.kind === 'verdict' ? value.packs : null;
  }

  // Somebody who deletes and brings back.

  *#person(): Process {
    for (let act = 0; act < 3; act += 1) {
      yield;
      const points = this.#list('point/');
      const name = points[this.#below(Math.max(1, points.length))];
      if (name === undefined || this.#get(name)?.kind !== 'point') continue;
      const pointId = name.slice('point/'.length);
      yield;
      const fate = this.#fateOf(pointId);
      yield;
      if (fate.purged) continue;
      if (fate.shown && this.#chance(0.7)) this.#mark(pointId, fate.next, 'delete');
      else if (!fate.shown) this.#mark(pointId, fate.next, 'restore');
    }
  }

  #mark(pointId: string, number: number, verb: 'delete' | 'restore' | 'purge'): boolean {
    return this.#put(`mark/${pointId}/${number}`, { kind: 'mark', verb });
  }

  #fateOf(pointId: string, isTrue = false): { shown: boolean; purged: boolean; next: number } {
    const marks: { number: number; verb: string }[] = [];
    for (const [name, file] of this.#files) {
      if (!name.startsWith(`mark/${pointId}/`) || file.value.kind !== 'mark') continue;
      if (isTrue || this.#sees(file)) {
        marks.push({ number: Number(name.slice(name.lastIndexOf('/') + 1)), verb: file.value.verb });
      }
    }
    marks.sort((a, b) => a.number - b.number);
    let shown = true;
    for (const { verb, number } of marks) {
      if (verb === 'purge') return { shown: false, purged: true, next: number + 1 };
      shown = verb === 'restore';
    }
    return { shown, purged: false, next: (marks.at(-1)?.number ?? -1) + 1 };
  }

  // A collection.

  *#collector(): Process {
    const seen = new Map<string, string>();
    const kept = new Set<string>();
    yield* this.#endDeletions(seen, kept);
    for (const name of this.#list('condemned/')) {
      yield;
      const verdict = this.#get(`verdict/${name.slice('condemned/'.length)}`);
      if (verdict?.kind === 'verdict') yield* this.#carryOut(name, verdict.packs ?? []);
    }
    for (let round = 0; round < 2; round += 1) if (!(yield* this.#collectRound(seen, kept))) return;
  }

  /** Records of sessions that are over go first, else they would keep what their points let go of. */
  *#endDeletions(seen: Map<string, string>, kept: Set<string>): Process {
    for (const [folder, pointId] of yield* this.#readSessions(seen)) {
      yield;
      if (this.#get(`point/${pointId}`) === null) continue;
      for (const name of this.#list(folder.slice(0, folder.lastIndexOf('/') + 1))) {
        const record = this.#get(name);
        if (record?.kind === 'record' && record.pointId === pointId) this.#files.delete(name);
      }
    }
    for (const name of yield* this.#listSurely('point/')) {
      const pointId = name.slice('point/'.length);
      yield;
      const fate = this.#fateOf(pointId);
      yield;
      let { purged } = fate;
      if (!fate.shown && !purged) {
        purged = this.#mark(pointId, fate.next, 'purge');
        if (purged) this.#outcome.purges += 1;
      }
      if (!purged) kept.add(name);
      else if (this.#fateOf(pointId, true).purged) {
        yield;
        this.#files.delete(name);
        for (const [folder, id] of seen) if (id === pointId) seen.delete(folder);
      }
    }
  }

  *#readSessions(seen: Map<string, string>): Generator<undefined, Map<string, string>, undefined> {
    const found = new Map<string, string>();
    for (const name of [...(yield* this.#listSurely('session/'))].sort()) {
      const value = this.#get(name);
      if (value?.kind !== 'record') continue;
      const folder = name.slice(0, name.lastIndexOf('/') + 1);
      // A lost writer and the one that took its place may have begun a point each.
      const key = this.#rules.everyPointOfSession ? `${folder}${value.pointId}` : folder;
      found.set(key, value.pointId);
      seen.set(key, value.pointId);
    }
    return found;
  }

  /** Null: something that was there is not listed. */
  *#needed(seen: Map<string, string>, kept: Set<string>): Generator<undefined, Set<number> | null, undefined> {
    const needed = new Set<number>();
    let points: ReadonlySet<string> | null = null;
    if (!this.#rules.sessionsBeforePoints) points = yield* this.#listSurely('point/');
    const folders = new Set<string>();
    for (const name of yield* this.#listSurely('session/')) {
      const value = this.#get(name);
      const folder = name.slice(0, name.lastIndexOf('/') + 1);
      // Replaced while it was read: the listing is begun anew.
      if (value === null) return yield* this.#needed(seen, kept);
      if (value.kind !== 'record') continue;
      const key = this.#rules.everyPointOfSession ? `${folder}${value.pointId}` : folder;
      folders.add(key);
      seen.set(key, value.pointId);
      for (const chunk of value.needs) needed.add(chunk);
    }
    points ??= yield* this.#listSurely('point/');
    for (const name of kept) if (!points.has(name) && !this.#fateOf(name.slice(6)).purged) return null;
    if (this.#rules.pointOfVanished) {
      for (const [folder, pointId] of seen) {
        if (!folders.has(folder) && !points.has(`point/${pointId}`) && !this.#fateOf(pointId).purged) return null;
      }
    }
    for (const name of points) {
      yield;
      const value = this.#get(name);
      if (value?.kind !== 'point' || this.#fateOf(name.slice('point/'.length)).purged) continue;
      kept.add(name);
      for (const chunk of value.chunks) needed.add(chunk);
    }
    return needed;
  }

  /** False: it stops here and leaves the rest to the next one. */
  *#collectRound(seen: Map<string, string>, kept: Set<string>): Generator<undefined, boolean, undefined> {
    const needed = yield* this.#needed(seen, kept);
    if (needed === null) return false;
    const { places, announced } = yield* this.#look();
    const packs = new Set([...places.values()].flat());
    const victims = [...packs].filter((pack) => {
      const value = this.#get(pack);
      if (value?.kind !== 'pack' || announced.has(pack)) return false;
      const live = value.chunks.filter((chunk) => needed.has(chunk)).length;
      return live < value.chunks.length && (live === 0 || this.#chance(0.7));
    });
    yield* this.#moveAway(victims, needed);
    if (victims.length > 0) {
      yield;
      this.#put(`condemned/${String(this.#name())}`, { kind: 'list', packs: victims });
    }
    let lists: string[] = [];
    if (this.#rules.listsBeforeSettling) {
      yield;
      lists = this.#list('condemned/');
      if (lists.length === 0) return false;
    }
    const settledAt = this.#outcome.steps + (this.#isSlowToShow ? 2 * LATE_STEPS : 0);
    // What is seen now and gone after the pause has published its point, whenever that can be seen.
    if (this.#rules.settle && this.#isSlowToShow) yield* this.#readSessions(seen);
    if (this.#rules.settle) while (this.#outcome.steps < settledAt) yield;
    if (!this.#rules.listsBeforeSettling) {
      yield;
      lists = this.#list('condemned/');
      if (lists.length === 0) return false;
    }
    if (this.#rules.waitForSessions && !(yield* this.#wait(seen))) return false;
    const now = this.#rules.markAgain ? yield* this.#needed(seen, kept) : needed;
    if (now === null) return false;
    const all = new Set<string>();
    for (const name of lists) {
      const value = this.#get(name);
      if (value?.kind === 'list') for (const pack of value.packs) all.add(pack);
    }
    const free = yield* this.#moveAway([...all], now);
    for (const name of lists) {
      yield;
      const value = this.#get(name);
      if (value?.kind !== 'list') continue;
      const wanted = value.packs.filter((pack) => free.has(pack));
      yield;
      const verdict = this.#rules.claim ? this.#settle(name, wanted) : wanted;
      yield;
      // Another collector brought it to its end and dropped list and verdict: this one is about nothing.
      const isOpen = !this.#rules.listStillThere || this.#get(name) !== null;
      yield* this.#carryOut(name, isOpen ? (verdict ?? []) : []);
    }
    return true;
  }

  /** Packs whose needed chunks all lie elsewhere now, in packs that nobody has announced. */
  *#moveAway(victims: readonly string[], needed: ReadonlySet<number>): Generator<undefined, Set<string>, undefined> {
    const free = new Set<string>();
    const { places, announced } = yield* this.#look();
    const isSafe = (pack: string): boolean =>
      !victims.includes(pack) && (!this.#rules.distrustAnnounced || !announced.has(pack));
    const moved = new Set<number>();
    for (const name of victims) {
      yield;
      const value = this.#get(name);
      if (value?.kind !== 'pack' || ![...places.values()].some((packs) => packs.includes(name))) continue;
      const lost = value.chunks.filter(
        (chunk) => needed.has(chunk) && !moved.has(chunk) && !(places.get(chunk) ?? []).some(isSafe),
      );
      if (lost.length > 0) {
        yield;
        this.#put(`pack/c${this.#name()}`, { kind: 'pack', chunks: lost });
        for (const chunk of lost) moved.add(chunk);
      }
      free.add(name);
    }
    return free;
  }

  *#wait(seen: Map<string, string>): Generator<undefined, boolean, undefined> {
    const awaited = new Set((yield* this.#running(null, seen)).map((folder) => folder));
    for (let poll = 0; poll < POLLS; poll += 1) {
      if ((yield* this.#running(awaited, seen)).length === 0) return true;
    }
    return false;
  }

  *#running(among: ReadonlySet<string> | null, seen: Map<string, string>): Generator<undefined, string[], undefined> {
    const running: string[] = [];
    const found = yield* this.#readSessions(seen);
    for (const [folder, pointId] of found) {
      if (among !== null && !among.has(folder)) continue;
      yield;
      if (this.#get(`point/${pointId}`) !== null) continue;
      // Whether it has been silent for long is a matter of clocks, which nothing may depend on.
      if (!this.#chance(0.15)) running.push(folder);
      else if (this.#rules.fence) {
        yield;
        if (this.#put(`point/${pointId}`, { kind: 'fence' })) this.#outcome.fences += 1;
      }
    }
    if (this.#rules.pointOfVanished) {
      for (const [folder, pointId] of seen) {
        yield;
        if (!found.has(folder) && this.#get(`point/${pointId}`) === null) running.push(folder);
      }
    }
    return running;
  }

  *#carryOut(list: string, packs: readonly string[]): Process {
    for (const pack of packs) {
      yield;
      if (!this.#files.delete(pack)) continue;
      this.#outcome.removedPacks += 1;
      this.#assertWhole(`after ${pack} was removed`);
    }
    yield;
    this.#files.delete(list);
    yield;
    this.#files.delete(`verdict/${list.slice('condemned/'.length)}`);
  }

  /** By the files themselves, whoever sees them. */
  #assertWhole(when: string): void {
    if (this.#outcome.violation !== null) return;
    const stored = new Set<number>();
    for (const { value } of this.#files.values()) {
      if (value.kind === 'pack') for (const chunk of value.chunks) stored.add(chunk);
    }
    for (const [name, { value }] of this.#files) {
      if (value.kind !== 'point' || this.#fateOf(name.slice('point/'.length), true).purged) continue;
      for (const chunk of value.chunks) {
        if (!stored.has(chunk)) this.#outcome.violation = `${name} lacks chunk ${chunk} ${when}`;
      }
    }
  }

  #name(): number {
    this.#names += 1;
    return this.#names;
  }

  #chance(share: number): boolean {
    return this.#random() < share;
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count);
  }
}
