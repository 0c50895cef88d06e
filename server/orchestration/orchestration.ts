import type { JobRemoved } from '../contract/api/job.schema.ts';
import type { SystemView } from '../contract/api/system.schema.ts';
import type { Settings, SettingsChange } from '../contract/api/settings.schema.ts';
import { toAppError } from '../errors/index.ts';
import type { GhettoImportInput, GhettoImportReport } from '../contract/api/configuration.schema.ts';
import { ConfigurationService } from './configuration.ts';
import { loadSettings, type OrchestrationContext } from './context.ts';
import { importGhetto } from './ghetto-import.ts';
import { HostWatch } from './host-watch.ts';
import { HostService } from './hosts.ts';
import { InventoryKeeper } from './inventory-keeper.ts';
import { JobScripts } from './job-scripts.ts';
import { JobService } from './jobs.ts';
import { MaintenanceService } from './maintenance.ts';
import type { SenderOptions } from './notice-sender.ts';
import { Notifications } from './notifications.ts';
import { ReportService } from './reports.ts';
import { RepositoryService } from './repositories.ts';
import { RetentionService } from './retention.ts';
import { RunKeeper } from './run-keeper.ts';
import { RunLog } from './run-log.ts';
import { RepositoryKeyService } from './repository-keys.ts';
import { RunStarter, type ReadPoints } from './run-starter.ts';
import { Scheduler } from './scheduler.ts';
import { ScheduleService } from './schedules.ts';
import { Triggers } from './triggers.ts';

/** Everything that Dozo does on demand, above the catalogue and the queue. The API is a face of it. */
export class Orchestration {
  readonly context: OrchestrationContext;
  readonly hosts: HostService;
  readonly repositories: RepositoryService;
  readonly jobs: JobService;
  readonly schedules: ScheduleService;
  readonly repositoryKeys: RepositoryKeyService;
  readonly retention: RetentionService;
  readonly maintenance: MaintenanceService;
  readonly keeper: RunKeeper;
  readonly notifications: Notifications;
  readonly reports: ReportService;
  readonly configuration: ConfigurationService;
  readonly scripts: JobScripts;
  readonly triggers: Triggers;
  readonly #inventory: InventoryKeeper;
  readonly #hostWatch: HostWatch;
  readonly #scheduler: Scheduler;
  readonly #starter: RunStarter;
  readonly #startedAtMs: number;
  readonly #version: string;

  constructor(
    context: OrchestrationContext,
    options: { version: string; scriptsFolder: string | null; readPoints?: ReadPoints } & SenderOptions,
  ) {
    this.context = context;
    this.#version = options.version;
    this.#startedAtMs = context.clock.nowMs();
    this.hosts = new HostService(context);
    this.repositoryKeys = new RepositoryKeyService(context);
    this.repositories = new RepositoryService(context, this.repositoryKeys);
    this.jobs = new JobService(context);
    this.#starter = new RunStarter(context, options.readPoints);
    this.retention = new RetentionService(context);
    this.maintenance = new MaintenanceService(context, {
      repositories: this.repositories,
      retention: this.retention,
      starter: this.#starter,
      announce: (runId) => this.keeper.announce(runId),
    });
    this.scripts = new JobScripts(context, options.scriptsFolder);
    this.triggers = new Triggers(context);
    this.keeper = new RunKeeper(context, {
      hosts: this.hosts,
      maintenance: this.maintenance,
      scripts: this.scripts,
    });
    this.reports = new ReportService(context);
    this.notifications = new Notifications(context, options);
    this.#inventory = new InventoryKeeper(context, { hosts: this.hosts, onFresh: () => this.#scheduler.wake() });
    this.#hostWatch = new HostWatch(context, { hosts: this.hosts });
    this.#scheduler = new Scheduler(context, {
      starter: this.#starter,
      keeper: this.keeper,
      inventory: this.#inventory,
    });
    this.schedules = new ScheduleService(context, { onChange: () => this.#scheduler.wake() });
    this.configuration = new ConfigurationService(
      context,
      {
        hosts: this.hosts,
        repositories: this.repositories,
        jobs: this.jobs,
        schedules: this.schedules,
        notifications: this.notifications,
        loadSettings: () => this.loadSettings(),
        changeSettings: (change) => this.changeSettings(change),
      },
      options.version,
    );
  }

  /** Takes up all runs that had not ended, and keeps going until `stop`. */
  start(): void {
    this.keeper.start();
    this.#scheduler.start();
    this.maintenance.start();
    this.notifications.start();
    this.#hostWatch.start();
  }

  async stop(): Promise<void> {
    this.scripts.stop();
    await this.#hostWatch.stop();
    await this.notifications.stop();
    await this.maintenance.stop();
    await this.#scheduler.stop();
    await this.keeper.stop();
  }

  /** Where rules select the machines of a whole job, hosts are asked for their machines before. */
  async startJob(...[jobId, input]: Parameters<RunStarter['startJob']>): Promise<string> {
    const selection = (await this.context.catalogue.jobs.load(jobId))?.selection ?? null;
    if (selection !== null && input.machineIds === undefined) await this.#inventory.freshen(selection);
    return this.#announce(await this.#starter.startJob(jobId, input));
  }

  async startRestore(...args: Parameters<RunStarter['startRestore']>): Promise<string> {
    return this.#announce(await this.#starter.startRestore(...args));
  }

  async startExport(...args: Parameters<RunStarter['startExport']>): Promise<string> {
    return this.#announce(await this.#starter.startExport(...args));
  }

  /** Versions that nobody named are sent as far as the target's retention would keep them. */
  async startCopy(...[sourceId, input]: Parameters<RunStarter['startCopy']>): Promise<string> {
    const planned = input.pointIds === undefined ? await this.maintenance.planCopy(sourceId, input.targetId) : null;
    if (planned === null) return this.#announce(await this.#starter.startCopy(sourceId, input));
    const runId = await this.#starter.startCopy(sourceId, { ...input, pointIds: planned.pointIds });
    await new RunLog(this.context).write(runId, null, {
      level: 'info',
      code: 'COPY_LEFT_OUT',
      text: `${planned.leftOut} versions are left out: the retention of the target would let go of them.`,
      details: { points: planned.leftOut },
    });
    return this.#announce(runId);
  }

  async startCheck(...args: Parameters<RunStarter['startCheck']>): Promise<string> {
    return this.#announce(await this.#starter.startCheck(...args));
  }

  async startMaintenance(repositoryId: string): Promise<string> {
    return this.#announce(await this.maintenance.begin(repositoryId));
  }

  /**
   * @throws NOT_FOUND, CONFLICT while it runs or another follows it; nothing is changed then, nor when versions cannot
   * be moved
   */
  async removeJob(jobId: string, versions: 'keep' | 'trash'): Promise<JobRemoved> {
    if (versions === 'keep') {
      await this.jobs.remove(jobId);
      return { trashed: 0, failed: [] };
    }
    await this.jobs.assertRemovable(jobId);
    const { removed, undo } = await this.maintenance.trashPointsOfJob(jobId);
    try {
      await this.jobs.remove(jobId);
      return removed;
    } catch (error) {
      // A run began meanwhile.
      await undo();
      throw error;
    }
  }

  importGhetto(input: GhettoImportInput): Promise<GhettoImportReport> {
    return importGhetto(this.context, this.jobs, input);
  }

  async loadSettings(): Promise<Settings> {
    return loadSettings(this.context.catalogue);
  }

  /** What is not named stays. */
  async changeSettings(change: SettingsChange): Promise<Settings> {
    const { catalogue, events } = this.context;
    const settings = await catalogue.transaction(async (tables) => {
      const named = Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
      const changed: Settings = { ...(await loadSettings(tables)), ...named };
      await tables.settings.save('settings', changed);
      return changed;
    });
    events.emit({ type: 'changed', what: 'settings', id: null });
    this.keeper.wake();
    return settings;
  }

  async describeSystem(): Promise<Omit<SystemView, 'certificate'>> {
    const { catalogue, queue, clock, logger } = this.context;
    const workers = queue.isUp()
      ? await queue.listWorkers().catch((error: unknown) => {
          logger.warn({ code: toAppError(error).code }, 'workers could not be listed');
          return [];
        })
      : [];
    return {
      version: this.#version,
      startedAtMs: this.#startedAtMs,
      nowMs: clock.nowMs(),
      firstUsedAtMs: Math.min(clock.nowMs(), ...(await catalogue.users.list()).map(({ createdAtMs }) => createdAtMs)),
      queue: queue.isUp() ? 'up' : 'down',
      workers,
      openHolds: (await catalogue.holds.listOpen()).length,
      activeRuns: (await catalogue.runs.list({ active: true, limit: 1000 })).length,
    };
  }

  async #announce(runId: string): Promise<string> {
    await this.keeper.announce(runId);
    return runId;
  }
}
