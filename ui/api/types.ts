import type { z } from 'zod';
import type {
  datastoreSchema,
  hostInputSchema,
  hostProbeSchema,
  probeResultSchema,
} from '../../server/contract/api/host.schema.ts';
import type { errorBodySchema, logLineSchema } from '../../server/contract/api/common.schema.ts';
import type { jobChangeSchema, jobInputSchema } from '../../server/contract/api/job.schema.ts';
import type { ghettoImportInputSchema } from '../../server/contract/api/configuration.schema.ts';
import type { jobListQuerySchema, machineListQuerySchema } from '../../server/contract/api/list.schema.ts';
import type {
  deliveryPageSchema,
  notificationSettingsChangeSchema,
} from '../../server/contract/api/notification.schema.ts';
import type { pointPageSchema } from '../../server/contract/api/point.schema.ts';
import type {
  repositoryKeyAddedSchema,
  repositoryKeyDrillResultSchema,
} from '../../server/contract/api/repository-key.schema.ts';
import type { repositoryCreatedSchema } from '../../server/contract/api/repository.schema.ts';
import type { exportInputSchema, restoreInputSchema } from '../../server/contract/api/restore.schema.ts';
import type {
  backupResultSchema,
  checkResultSchema,
  copyResultSchema,
  maintenanceResultSchema,
  restoreResultSchema,
  runDetailSchema,
  runLogSchema,
  runPageSchema,
} from '../../server/contract/api/run.schema.ts';
import type { scheduleRuleSchema, scheduleSchema } from '../../server/contract/api/schedule.schema.ts';
import type { auditPageSchema, auditVerdictSchema } from '../../server/contract/api/audit.schema.ts';
import type { newTokenSchema, secondFactorSecretSchema } from '../../server/contract/api/session.schema.ts';

export type { ServerEvent } from '../../server/contract/api/event.schema.ts';
export type { JobRow, MachineRow, Protection } from '../../server/contract/api/list.schema.ts';
export type { History, Overview } from '../../server/contract/api/overview.schema.ts';
export type { GuestFileView, GuestFolderPage, GuestVolumeView } from '../../server/contract/api/guest-file.schema.ts';
export type { HostView } from '../../server/contract/api/host.schema.ts';
export type { JobRemoved, JobView } from '../../server/contract/api/job.schema.ts';
export type { MachineView } from '../../server/contract/api/machine.schema.ts';
export type {
  DeliveryView,
  NotificationSettingsView,
  NotificationTest,
  RecipientInput,
  RecipientView,
} from '../../server/contract/api/notification.schema.ts';
export type { FolderView, NasView } from '../../server/contract/api/nas.schema.ts';
export type { JobHooksView, NewTrigger, Scripts } from '../../server/contract/api/hook.schema.ts';
export type { Selection, SelectionPreview } from '../../server/contract/api/selection.schema.ts';
export type {
  ConfigurationDocument,
  GhettoImportReport,
  ImportReport,
} from '../../server/contract/api/configuration.schema.ts';
export type { PointsChanged, PointView } from '../../server/contract/api/point.schema.ts';
export type { RepositoryKeyView } from '../../server/contract/api/repository-key.schema.ts';
export type {
  RepositoryMaintenanceView,
  RepositorySpace,
  RepositoryUsage,
  RepositoryView,
} from '../../server/contract/api/repository.schema.ts';
export type { Permission, Role } from '../../server/contract/api/permission.schema.ts';
export type { Retention, RetentionPreview, RetentionSimulation } from '../../server/contract/api/retention.schema.ts';
export type { JobScheduleView, Weekday } from '../../server/contract/api/schedule.schema.ts';
export type { RunPartView, RunView } from '../../server/contract/api/run.schema.ts';
export type { OpenSessionView, SessionView, TokenView } from '../../server/contract/api/session.schema.ts';
export type { Settings, SettingsChange } from '../../server/contract/api/settings.schema.ts';
export type { UserView } from '../../server/contract/api/user.schema.ts';
export type { SystemView } from '../../server/contract/api/system.schema.ts';

export type ErrorBody = z.infer<typeof errorBodySchema>;
export type LogLine = z.infer<typeof logLineSchema>;
export type HostInput = z.input<typeof hostInputSchema>;
export type HostProbeInput = z.input<typeof hostProbeSchema>;
export type ProbeResult = z.infer<typeof probeResultSchema>;
export type Datastore = z.infer<typeof datastoreSchema>;
export type GhettoImportInput = z.input<typeof ghettoImportInputSchema>;
export type JobInput = z.input<typeof jobInputSchema>;
export type JobChange = z.input<typeof jobChangeSchema>;
export type PointPage = z.infer<typeof pointPageSchema>;
export type RestoreInput = z.input<typeof restoreInputSchema>;
export type ExportInput = z.input<typeof exportInputSchema>;
export type RunDetail = z.infer<typeof runDetailSchema>;
export type RunLog = z.infer<typeof runLogSchema>;
export type RunPage = z.infer<typeof runPageSchema>;
export type BackupResult = z.infer<typeof backupResultSchema>;
export type RestoreResult = z.infer<typeof restoreResultSchema>;
export type CheckResult = z.infer<typeof checkResultSchema>;
export type CopyResult = z.infer<typeof copyResultSchema>;
export type MaintenanceResult = z.infer<typeof maintenanceResultSchema>;
export type NewToken = z.infer<typeof newTokenSchema>;
export type MachineListQuery = Partial<z.output<typeof machineListQuerySchema>>;
export type JobListQuery = Partial<z.output<typeof jobListQuerySchema>>;
export type Schedule = z.output<typeof scheduleSchema>;
export type ScheduleRule = z.output<typeof scheduleRuleSchema>;
export type SecondFactorSecret = z.infer<typeof secondFactorSecretSchema>;
export type NotificationSettingsChange = z.input<typeof notificationSettingsChangeSchema>;
export type DeliveryPage = z.infer<typeof deliveryPageSchema>;
export type RepositoryCreated = z.infer<typeof repositoryCreatedSchema>;
export type RepositoryKeyAdded = z.infer<typeof repositoryKeyAddedSchema>;
export type RepositoryKeyDrill = z.infer<typeof repositoryKeyDrillResultSchema>;
export type AuditPage = z.infer<typeof auditPageSchema>;
export type AuditVerdict = z.infer<typeof auditVerdictSchema>;
