/**
 * The part of vSphere's type system that Dozo reads, since replies name the type of a value only where
 * it differs from the declared one. A line a type: its base after `<`, then the properties that are
 * not plain text. Taken from the vSphere Web Services API reference, version 7.0; a property of a
 * later version is text until it stands here, several of one name are an array.
 *
 * Kinds: `number`, `boolean`, `string`, `reference` (a managed object), the name of a data type; `[]`
 * after it for an array.
 */
const VIM_TYPES = `
AlreadyExists < VimFault
ChoiceOption < OptionType: choiceInfo:ElementDescription[] defaultIndex:number
CryptoKeyId: providerId:KeyProviderId
CustomFieldValue: key:number
DatastoreCapability: directoryHierarchySupported:boolean rawDiskMappingsSupported:boolean perFileThinProvisioningSupported:boolean storageIORMSupported:boolean nativeSnapshotSupported:boolean topLevelDirectoryCreateSupported:boolean seSparseSupported:boolean vmfsSparseSupported:boolean vsanSparseSupported:boolean upitSupported:boolean vmdkExpandSupported:boolean clusteredVmdkSupported:boolean
DatastoreHostMount: key:reference mountInfo:HostMountInfo
DatastoreInfo: freeSpace:number maxFileSize:number maxVirtualDiskCapacity:number maxMemoryFileSize:number
DatastoreSummary: datastore:reference capacity:number freeSpace:number uncommitted:number accessible:boolean multipleHostAccess:boolean
DiskChangeExtent: start:number length:number
DiskChangeInfo: startOffset:number length:number changedArea:DiskChangeExtent[]
DuplicateName < VimFault: object:reference
ElementDescription < Description
FaultToleranceConfigInfo: role:number instanceUuids:string[] configPaths:string[] orphaned:boolean
FileFault < VimFault
FileInfo: fileSize:number
FileLocked < FileFault
GuestDiskInfo: capacity:number freeSpace:number mappings:GuestInfoVirtualDiskMapping[]
GuestInfo: net:GuestNicInfo[] ipStack:GuestStackInfo[] disk:GuestDiskInfo[] screen:GuestScreenInfo guestKernelCrashed:boolean guestOperationsReady:boolean interactiveGuestOperationsReady:boolean guestStateChangeSupported:boolean generationInfo:GuestInfoNamespaceGenerationInfo[]
GuestInfoNamespaceGenerationInfo: generationNo:number
GuestInfoVirtualDiskMapping: key:number
GuestNicInfo: ipAddress:string[] connected:boolean deviceConfigId:number dnsConfig:NetDnsConfigInfo ipConfig:NetIpConfigInfo netBIOSConfig:NetBIOSConfigInfo
GuestScreenInfo: width:number height:number
GuestStackInfo: dnsConfig:NetDnsConfigInfo ipRouteConfig:NetIpRouteConfigInfo ipStackConfig:KeyValue[] dhcpConfig:NetDhcpConfigInfo
HostConfigSummary: port:number product:AboutInfo vmotionEnabled:boolean faultToleranceEnabled:boolean featureVersion:HostFeatureVersionInfo[] agentVmDatastore:reference agentVmNetwork:reference
HostCpuIdInfo: level:number
HostDatastoreBrowserSearchResults: datastore:reference file:FileInfo[]
HostFileSystemVolume: capacity:number
HostForceMountedInfo: persist:boolean mounted:boolean
HostHardwareSummary: otherIdentifyingInfo:HostSystemIdentificationInfo[] memorySize:number cpuMhz:number numCpuPkgs:number numCpuCores:number numCpuThreads:number numNics:number numHBAs:number
HostListSummary: host:reference hardware:HostHardwareSummary runtime:HostRuntimeInfo config:HostConfigSummary quickStats:HostListSummaryQuickStats rebootRequired:boolean customValue:CustomFieldValue[] gateway:HostListSummaryGatewaySummary trustAuthorityAttestationInfos:HostTrustAuthorityAttestationInfo[]
HostLocalFileSystemVolume < HostFileSystemVolume
HostMountInfo: mounted:boolean accessible:boolean
HostNasVolume < HostFileSystemVolume: remoteHostNames:string[] protocolEndpoint:boolean
HostPMemVolume < HostFileSystemVolume
HostProtocolEndpoint: hostKey:reference[]
HostRuntimeInfo: inMaintenanceMode:boolean inQuarantineMode:boolean healthSystemRuntime:HealthSystemRuntime tpmPcrValues:HostTpmDigestInfo[] vsanRuntimeInfo:VsanHostRuntimeInfo networkRuntimeInfo:HostRuntimeInfoNetworkRuntimeInfo vFlashResourceRuntimeInfo:HostVFlashManagerVFlashResourceRunTimeInfo hostMaxVirtualDiskCapacity:number cryptoKeyId:CryptoKeyId
HostRuntimeInfoNetStackInstanceRuntimeInfo: vmknicKeys:string[] maxNumberOfConnections:number currentIpV6Enabled:boolean
HostRuntimeInfoNetworkRuntimeInfo: netStackInstanceRuntimeInfo:HostRuntimeInfoNetStackInstanceRuntimeInfo[] networkResourceRuntime:HostNetworkResourceRuntime
HostScsiDiskPartition: partition:number
HostSystemIdentificationInfo: identifierType:ElementDescription
HostVfatVolume < HostFileSystemVolume
HostVffsVolume < HostFileSystemVolume: majorVersion:number extent:HostScsiDiskPartition[]
HostVmfsVolume < HostFileSystemVolume: blockSizeMb:number blockSize:number unmapGranularity:number unmapBandwidthSpec:VmfsUnmapBandwidthSpec maxBlocks:number majorVersion:number extent:HostScsiDiskPartition[] vmfsUpgradable:boolean forceMountedInfo:HostForceMountedInfo ssd:boolean local:boolean
HostVvolVolume < HostFileSystemVolume: hostPE:VVolHostPE[] vasaProviderInfo:VimVasaProviderInfo[] storageArray:VASAStorageArray[]
InsufficientResourcesFault < VimFault
InvalidArgument < RuntimeFault
InvalidLogin < VimFault
InvalidPowerState < InvalidState
InvalidState < VimFault
LatencySensitivity: sensitivity:number
LicenseManagerLicenseInfo: total:number used:number properties:KeyAnyValue[] labels:KeyValue[]
LocalDatastoreInfo < DatastoreInfo
LocalizableMessage: arg:KeyAnyValue[]
LocalizedMethodFault: fault:MethodFault
ManagedObjectNotFound < RuntimeFault: obj:reference
MethodFault: faultCause:LocalizedMethodFault faultMessage:LocalizableMessage[]
MissingProperty: fault:LocalizedMethodFault
NasDatastoreInfo < DatastoreInfo: nas:HostNasVolume
NetDnsConfigInfo: dhcp:boolean ipAddress:string[] searchDomain:string[]
NetIpConfigInfo: ipAddress:NetIpConfigInfoIpAddress[] dhcp:NetDhcpConfigInfo autoConfigurationEnabled:boolean
NetIpConfigInfoIpAddress: prefixLength:number
NetworkSummary: network:reference accessible:boolean ipPoolId:number
NoDiskSpace < FileFault
NoPermission < SecurityError: object:reference
NotAuthenticated < NoPermission
NotFound < VimFault
ObjectContent: obj:reference propSet:DynamicProperty[] missingSet:MissingProperty[]
OptionType: valueIsReadonly:boolean
PMemDatastoreInfo < DatastoreInfo: pmem:HostPMemVolume
ParaVirtualSCSIController < VirtualSCSIController
ReplicationConfigSpec: generation:number port:number rpo:number quiesceGuestEnabled:boolean paused:boolean oppUpdatesEnabled:boolean netCompressionEnabled:boolean netEncryptionEnabled:boolean encryptionPort:number disk:ReplicationInfoDiskSettings[]
ReplicationInfoDiskSettings: key:number
ResourceAllocationInfo: reservation:number expandableReservation:boolean limit:number shares:SharesInfo overheadLimit:number
RestrictedVersion < SecurityError
RetrieveResult: objects:ObjectContent[]
RuntimeFault < MethodFault
ScheduledHardwareUpgradeInfo: fault:LocalizedMethodFault
SecurityError < RuntimeFault
ServiceContent: rootFolder:reference propertyCollector:reference viewManager:reference about:AboutInfo setting:reference userDirectory:reference sessionManager:reference authorizationManager:reference serviceManager:reference perfManager:reference scheduledTaskManager:reference alarmManager:reference eventManager:reference taskManager:reference extensionManager:reference customizationSpecManager:reference guestCustomizationManager:reference customFieldsManager:reference accountManager:reference diagnosticManager:reference licenseManager:reference searchIndex:reference fileManager:reference datastoreNamespaceManager:reference virtualDiskManager:reference virtualizationManager:reference snmpSystem:reference vmProvisioningChecker:reference vmCompatibilityChecker:reference ovfManager:reference ipPoolManager:reference dvSwitchManager:reference hostProfileManager:reference clusterProfileManager:reference complianceManager:reference localizationManager:reference storageResourceManager:reference guestOperationsManager:reference overheadMemoryManager:reference certificateManager:reference ioFilterManager:reference vStorageObjectManager:reference hostSpecManager:reference cryptoManager:reference healthUpdateManager:reference failoverClusterConfigurator:reference failoverClusterManager:reference tenantManager:reference siteInfoManager:reference storageQueryManager:reference
SharesInfo: shares:number
SnapshotFault < VimFault
StorageIOAllocationInfo: limit:number shares:SharesInfo reservation:number
TaskFilterSpec: entity:TaskFilterSpecByEntity time:TaskFilterSpecByTime userName:TaskFilterSpecByUsername activationId:string[] state:string[] alarm:reference scheduledTask:reference eventChainId:number[] tag:string[] parentTaskKey:string[] rootTaskKey:string[]
TaskFilterSpecByEntity: entity:reference
TaskFilterSpecByUsername: systemUser:boolean userList:string[]
TaskInProgress < VimFault: task:reference
TaskInfo: task:reference description:LocalizableMessage entity:reference locked:reference[] cancelled:boolean cancelable:boolean error:LocalizedMethodFault progress:number reason:TaskReason eventChainId:number
ToolsConfigInfo: toolsVersion:number afterPowerOn:boolean afterResume:boolean beforeGuestStandby:boolean beforeGuestShutdown:boolean beforeGuestReboot:boolean customizationKeyId:CryptoKeyId syncTimeWithHostAllowed:boolean syncTimeWithHost:boolean lastInstallInfo:ToolsConfigInfoToolsLastInstallInfo
ToolsConfigInfoToolsLastInstallInfo: counter:number fault:LocalizedMethodFault
UserSession: extensionSession:boolean callCount:number
VAppIPAssignmentInfo: supportedAllocationScheme:string[] supportedIpProtocol:string[]
VAppOvfSectionInfo: key:number atEnvelopeLevel:boolean
VAppProductInfo: key:number
VVolHostPE: key:reference protocolEndpoint:HostProtocolEndpoint[]
VimFault < MethodFault
VimVasaProviderInfo: provider:VimVasaProvider arrayState:VimVasaProviderStatePerArray[]
VimVasaProviderStatePerArray: priority:number active:boolean
VirtualAHCIController < VirtualSATAController
VirtualBusLogicController < VirtualSCSIController
VirtualCdrom < VirtualDevice
VirtualCdromAtapiBackingInfo < VirtualDeviceDeviceBackingInfo
VirtualCdromIsoBackingInfo < VirtualDeviceFileBackingInfo
VirtualCdromPassthroughBackingInfo < VirtualDeviceDeviceBackingInfo: exclusive:boolean
VirtualCdromRemoteAtapiBackingInfo < VirtualDeviceRemoteDeviceBackingInfo
VirtualCdromRemotePassthroughBackingInfo < VirtualDeviceRemoteDeviceBackingInfo: exclusive:boolean
VirtualController < VirtualDevice: busNumber:number device:number[]
VirtualDevice: key:number deviceInfo:Description backing:VirtualDeviceBackingInfo connectable:VirtualDeviceConnectInfo slotInfo:VirtualDeviceBusSlotInfo controllerKey:number unitNumber:number
VirtualDeviceConnectInfo: startConnected:boolean allowGuestControl:boolean connected:boolean
VirtualDeviceDeviceBackingInfo < VirtualDeviceBackingInfo: useAutoDetect:boolean
VirtualDeviceFileBackingInfo < VirtualDeviceBackingInfo: datastore:reference
VirtualDevicePipeBackingInfo < VirtualDeviceBackingInfo
VirtualDeviceRemoteDeviceBackingInfo < VirtualDeviceBackingInfo: useAutoDetect:boolean
VirtualDeviceURIBackingInfo < VirtualDeviceBackingInfo
VirtualDisk < VirtualDevice: capacityInKB:number capacityInBytes:number shares:SharesInfo storageIOAllocation:StorageIOAllocationInfo vFlashCacheConfigInfo:VirtualDiskVFlashCacheConfigInfo iofilter:string[] vDiskId:ID nativeUnmanagedLinkedClone:boolean
VirtualDiskFlatVer1BackingInfo < VirtualDeviceFileBackingInfo: split:boolean writeThrough:boolean parent:VirtualDiskFlatVer1BackingInfo
VirtualDiskFlatVer2BackingInfo < VirtualDeviceFileBackingInfo: split:boolean writeThrough:boolean thinProvisioned:boolean eagerlyScrub:boolean parent:VirtualDiskFlatVer2BackingInfo digestEnabled:boolean deltaGrainSize:number keyId:CryptoKeyId
VirtualDiskLocalPMemBackingInfo < VirtualDeviceFileBackingInfo
VirtualDiskPartitionedRawDiskVer2BackingInfo < VirtualDiskRawDiskVer2BackingInfo: partition:number[]
VirtualDiskRawDiskMappingVer1BackingInfo < VirtualDeviceFileBackingInfo: parent:VirtualDiskRawDiskMappingVer1BackingInfo deltaGrainSize:number
VirtualDiskRawDiskVer2BackingInfo < VirtualDeviceDeviceBackingInfo
VirtualDiskSeSparseBackingInfo < VirtualDeviceFileBackingInfo: writeThrough:boolean parent:VirtualDiskSeSparseBackingInfo digestEnabled:boolean grainSize:number keyId:CryptoKeyId
VirtualDiskSparseVer1BackingInfo < VirtualDeviceFileBackingInfo: split:boolean writeThrough:boolean spaceUsedInKB:number parent:VirtualDiskSparseVer1BackingInfo
VirtualDiskSparseVer2BackingInfo < VirtualDeviceFileBackingInfo: split:boolean writeThrough:boolean spaceUsedInKB:number parent:VirtualDiskSparseVer2BackingInfo keyId:CryptoKeyId
VirtualDiskVFlashCacheConfigInfo: reservationInMB:number blockSizeInKB:number
VirtualE1000 < VirtualEthernetCard
VirtualE1000e < VirtualEthernetCard
VirtualEnsoniq1371 < VirtualSoundCard
VirtualEthernetCard < VirtualDevice: wakeOnLanEnabled:boolean resourceAllocation:VirtualEthernetCardResourceAllocation uptCompatibilityEnabled:boolean
VirtualEthernetCardDistributedVirtualPortBackingInfo < VirtualDeviceBackingInfo
VirtualEthernetCardLegacyNetworkBackingInfo < VirtualDeviceDeviceBackingInfo
VirtualEthernetCardNetworkBackingInfo < VirtualDeviceDeviceBackingInfo: network:reference inPassthroughMode:boolean
VirtualEthernetCardOpaqueNetworkBackingInfo < VirtualDeviceBackingInfo
VirtualEthernetCardResourceAllocation: reservation:number share:SharesInfo limit:number
VirtualFloppy < VirtualDevice
VirtualFloppyDeviceBackingInfo < VirtualDeviceDeviceBackingInfo
VirtualFloppyImageBackingInfo < VirtualDeviceFileBackingInfo
VirtualFloppyRemoteDeviceBackingInfo < VirtualDeviceRemoteDeviceBackingInfo
VirtualHardware: numCPU:number numCoresPerSocket:number memoryMB:number virtualICH7MPresent:boolean virtualSMCPresent:boolean device:VirtualDevice[]
VirtualHdAudioCard < VirtualSoundCard
VirtualIDEController < VirtualController
VirtualKeyboard < VirtualDevice
VirtualLsiLogicController < VirtualSCSIController
VirtualLsiLogicSASController < VirtualSCSIController
VirtualMachineAffinityInfo: affinitySet:number[]
VirtualMachineBootOptions: bootDelay:number enterBIOSSetup:boolean efiSecureBootEnabled:boolean bootRetryEnabled:boolean bootRetryDelay:number bootOrder:VirtualMachineBootOptionsBootableDevice[]
VirtualMachineCapability: snapshotOperationsSupported:boolean multipleSnapshotsSupported:boolean snapshotConfigSupported:boolean poweredOffSnapshotsSupported:boolean memorySnapshotsSupported:boolean revertToSnapshotSupported:boolean quiescedSnapshotsSupported:boolean disableSnapshotsSupported:boolean lockSnapshotsSupported:boolean consolePreferencesSupported:boolean cpuFeatureMaskSupported:boolean s1AcpiManagementSupported:boolean settingScreenResolutionSupported:boolean toolsAutoUpdateSupported:boolean vmNpivWwnSupported:boolean npivWwnOnNonRdmVmSupported:boolean vmNpivWwnDisableSupported:boolean vmNpivWwnUpdateSupported:boolean swapPlacementSupported:boolean toolsSyncTimeSupported:boolean virtualMmuUsageSupported:boolean diskSharesSupported:boolean bootOptionsSupported:boolean bootRetryOptionsSupported:boolean settingVideoRamSizeSupported:boolean settingDisplayTopologySupported:boolean recordReplaySupported:boolean changeTrackingSupported:boolean multipleCoresPerSocketSupported:boolean hostBasedReplicationSupported:boolean guestAutoLockSupported:boolean memoryReservationLockSupported:boolean featureRequirementSupported:boolean poweredOnMonitorTypeChangeSupported:boolean seSparseDiskSupported:boolean nestedHVSupported:boolean vPMCSupported:boolean secureBootSupported:boolean perVmEvcSupported:boolean virtualMmuUsageIgnored:boolean virtualExecUsageIgnored:boolean diskOnlySnapshotOnSuspendedVMSupported:boolean toolsSyncTimeAllowSupported:boolean sevSupported:boolean
VirtualMachineConfigInfo: npivNodeWorldWideName:number[] npivPortWorldWideName:number[] npivDesiredNodeWwns:number npivDesiredPortWwns:number npivTemporaryDisabled:boolean npivOnNonRdmDisks:boolean template:boolean files:VirtualMachineFileInfo tools:ToolsConfigInfo flags:VirtualMachineFlagInfo consolePreferences:VirtualMachineConsolePreferences defaultPowerOps:VirtualMachineDefaultPowerOpInfo hardware:VirtualHardware vcpuConfig:VirtualMachineVcpuConfig[] cpuAllocation:ResourceAllocationInfo memoryAllocation:ResourceAllocationInfo latencySensitivity:LatencySensitivity memoryHotAddEnabled:boolean cpuHotAddEnabled:boolean cpuHotRemoveEnabled:boolean hotPlugMemoryLimit:number hotPlugMemoryIncrementSize:number cpuAffinity:VirtualMachineAffinityInfo memoryAffinity:VirtualMachineAffinityInfo networkShaper:VirtualMachineNetworkShaperInfo extraConfig:OptionValue[] cpuFeatureMask:HostCpuIdInfo[] datastoreUrl:VirtualMachineConfigInfoDatastoreUrlPair[] bootOptions:VirtualMachineBootOptions ftInfo:FaultToleranceConfigInfo repConfig:ReplicationConfigSpec vAppConfig:VmConfigInfo vAssertsEnabled:boolean changeTrackingEnabled:boolean maxMksConnections:number guestAutoLockEnabled:boolean managedBy:ManagedByInfo memoryReservationLockedToMax:boolean initialOverhead:VirtualMachineConfigInfoOverheadInfo nestedHVEnabled:boolean vPMCEnabled:boolean scheduledHardwareUpgradeInfo:ScheduledHardwareUpgradeInfo forkConfigInfo:VirtualMachineForkConfigInfo vFlashCacheReservation:number messageBusTunnelEnabled:boolean keyId:CryptoKeyId guestIntegrityInfo:VirtualMachineGuestIntegrityInfo sgxInfo:VirtualMachineSgxInfo contentLibItemInfo:VirtualMachineContentLibraryItemInfo guestMonitoringModeInfo:VirtualMachineGuestMonitoringModeInfo sevEnabled:boolean
VirtualMachineConfigInfoOverheadInfo: initialMemoryReservation:number initialSwapReservation:number
VirtualMachineConfigSummary: template:boolean memorySizeMB:number cpuReservation:number memoryReservation:number numCpu:number numEthernetCards:number numVirtualDisks:number product:VAppProductInfo installBootRequired:boolean ftInfo:FaultToleranceConfigInfo managedBy:ManagedByInfo tpmPresent:boolean numVmiopBackings:number
VirtualMachineConsolePreferences: powerOnWhenOpened:boolean enterFullScreenOnPowerOn:boolean closeOnPowerOffOrSuspend:boolean
VirtualMachineDeviceRuntimeInfo: runtimeState:VirtualMachineDeviceRuntimeInfoDeviceRuntimeState key:number
VirtualMachineFileLayoutEx: file:VirtualMachineFileLayoutExFileInfo[] disk:VirtualMachineFileLayoutExDiskLayout[] snapshot:VirtualMachineFileLayoutExSnapshotLayout[]
VirtualMachineFileLayoutExDiskLayout: key:number chain:VirtualMachineFileLayoutExDiskUnit[]
VirtualMachineFileLayoutExDiskUnit: fileKey:number[]
VirtualMachineFileLayoutExFileInfo: key:number size:number uniqueSize:number accessible:boolean
VirtualMachineFileLayoutExSnapshotLayout: key:reference dataKey:number memoryKey:number disk:VirtualMachineFileLayoutExDiskLayout[]
VirtualMachineFlagInfo: disableAcceleration:boolean enableLogging:boolean useToe:boolean runWithDebugInfo:boolean snapshotDisabled:boolean snapshotLocked:boolean diskUuidEnabled:boolean recordReplayEnabled:boolean cbrcCacheEnabled:boolean vvtdEnabled:boolean vbsEnabled:boolean
VirtualMachineForkConfigInfo: parentEnabled:boolean
VirtualMachineGuestIntegrityInfo: enabled:boolean
VirtualMachineMessage: argument:string[]
VirtualMachineNetworkShaperInfo: enabled:boolean peakBps:number averageBps:number burstSize:number
VirtualMachineQuestionInfo: choice:ChoiceOption message:VirtualMachineMessage[]
VirtualMachineQuickStats: overallCpuUsage:number overallCpuDemand:number overallCpuReadiness:number guestMemoryUsage:number hostMemoryUsage:number distributedCpuEntitlement:number distributedMemoryEntitlement:number staticCpuEntitlement:number staticMemoryEntitlement:number grantedMemory:number privateMemory:number sharedMemory:number swappedMemory:number balloonedMemory:number consumedOverheadMemory:number ftLogBandwidth:number ftSecondaryLatency:number compressedMemory:number uptimeSeconds:number ssdSwappedMemory:number
VirtualMachineRuntimeInfo: device:VirtualMachineDeviceRuntimeInfo[] host:reference dasVmProtection:VirtualMachineRuntimeInfoDasProtectionState toolsInstallerMounted:boolean suspendInterval:number question:VirtualMachineQuestionInfo memoryOverhead:number maxCpuUsage:number maxMemoryUsage:number numMksConnections:number cleanPowerOff:boolean onlineStandby:boolean consolidationNeeded:boolean offlineFeatureRequirement:VirtualMachineFeatureRequirement[] featureRequirement:VirtualMachineFeatureRequirement[] featureMask:HostFeatureMask[] vFlashCacheAllocation:number paused:boolean snapshotInBackground:boolean quiescedForkParent:boolean instantCloneFrozen:boolean
VirtualMachineRuntimeInfoDasProtectionState: dasProtected:boolean
VirtualMachineSgxInfo: epcSize:number
VirtualMachineSnapshotInfo: currentSnapshot:reference rootSnapshotList:VirtualMachineSnapshotTree[]
VirtualMachineSnapshotTree: snapshot:reference vm:reference id:number quiesced:boolean childSnapshotList:VirtualMachineSnapshotTree[] replaySupported:boolean
VirtualMachineStorageInfo: perDatastoreUsage:VirtualMachineUsageOnDatastore[]
VirtualMachineStorageSummary: committed:number uncommitted:number unshared:number
VirtualMachineSummary: vm:reference runtime:VirtualMachineRuntimeInfo guest:VirtualMachineGuestSummary config:VirtualMachineConfigSummary storage:VirtualMachineStorageSummary quickStats:VirtualMachineQuickStats customValue:CustomFieldValue[]
VirtualMachineUsageOnDatastore: datastore:reference committed:number uncommitted:number unshared:number
VirtualMachineVMCIDevice < VirtualDevice: id:number allowUnrestrictedCommunication:boolean filterEnable:boolean filterInfo:VirtualMachineVMCIDeviceFilterInfo
VirtualMachineVMCIDeviceFilterInfo: filters:VirtualMachineVMCIDeviceFilterSpec[]
VirtualMachineVMCIDeviceFilterSpec: rank:number lowerDstPortBoundary:number upperDstPortBoundary:number
VirtualMachineVMIROM < VirtualDevice
VirtualMachineVcpuConfig: latencySensitivity:LatencySensitivity
VirtualMachineVideoCard < VirtualDevice: videoRamSizeInKB:number numDisplays:number useAutoDetect:boolean enable3DSupport:boolean graphicsMemorySizeInKB:number
VirtualNVDIMM < VirtualDevice: capacityInMB:number
VirtualNVDIMMBackingInfo < VirtualDeviceFileBackingInfo: parent:VirtualNVDIMMBackingInfo
VirtualNVDIMMController < VirtualController
VirtualNVMEController < VirtualController
VirtualPCIController < VirtualController
VirtualPCIPassthrough < VirtualDevice
VirtualPCIPassthroughAllowedDevice: vendorId:number deviceId:number subVendorId:number subDeviceId:number revisionId:number
VirtualPCIPassthroughDeviceBackingInfo < VirtualDeviceDeviceBackingInfo: vendorId:number
VirtualPCIPassthroughDynamicBackingInfo < VirtualDeviceDeviceBackingInfo: allowedDevice:VirtualPCIPassthroughAllowedDevice[]
VirtualPCIPassthroughPluginBackingInfo < VirtualDeviceBackingInfo
VirtualPCIPassthroughVmiopBackingInfo < VirtualPCIPassthroughPluginBackingInfo
VirtualPCNet32 < VirtualEthernetCard
VirtualPS2Controller < VirtualController
VirtualParallelPort < VirtualDevice
VirtualParallelPortDeviceBackingInfo < VirtualDeviceDeviceBackingInfo
VirtualParallelPortFileBackingInfo < VirtualDeviceFileBackingInfo
VirtualPointingDevice < VirtualDevice
VirtualPointingDeviceDeviceBackingInfo < VirtualDeviceDeviceBackingInfo
VirtualPrecisionClock < VirtualDevice
VirtualPrecisionClockSystemClockBackingInfo < VirtualDeviceBackingInfo
VirtualSATAController < VirtualController
VirtualSCSIController < VirtualController: hotAddRemove:boolean scsiCtlrUnitNumber:number
VirtualSCSIPassthrough < VirtualDevice
VirtualSCSIPassthroughDeviceBackingInfo < VirtualDeviceDeviceBackingInfo
VirtualSIOController < VirtualController
VirtualSerialPort < VirtualDevice: yieldOnPoll:boolean
VirtualSerialPortDeviceBackingInfo < VirtualDeviceDeviceBackingInfo
VirtualSerialPortFileBackingInfo < VirtualDeviceFileBackingInfo
VirtualSerialPortPipeBackingInfo < VirtualDevicePipeBackingInfo: noRxLoss:boolean
VirtualSerialPortThinPrintBackingInfo < VirtualDeviceBackingInfo
VirtualSerialPortURIBackingInfo < VirtualDeviceURIBackingInfo
VirtualSoundBlaster16 < VirtualSoundCard
VirtualSoundCard < VirtualDevice
VirtualSoundCardDeviceBackingInfo < VirtualDeviceDeviceBackingInfo
VirtualSriovEthernetCard < VirtualEthernetCard: allowGuestOSMtuChange:boolean sriovBacking:VirtualSriovEthernetCardSriovBackingInfo
VirtualSriovEthernetCardSriovBackingInfo < VirtualDeviceBackingInfo: physicalFunctionBacking:VirtualPCIPassthroughDeviceBackingInfo virtualFunctionBacking:VirtualPCIPassthroughDeviceBackingInfo virtualFunctionIndex:number
VirtualTPM < VirtualDevice: endorsementKeyCertificateSigningRequest:string[] endorsementKeyCertificate:string[]
VirtualUSB < VirtualDevice: connected:boolean vendor:number product:number family:string[] speed:string[]
VirtualUSBController < VirtualController: autoConnectDevices:boolean ehciEnabled:boolean
VirtualUSBRemoteClientBackingInfo < VirtualDeviceRemoteDeviceBackingInfo
VirtualUSBRemoteHostBackingInfo < VirtualDeviceDeviceBackingInfo
VirtualUSBUSBBackingInfo < VirtualDeviceDeviceBackingInfo
VirtualUSBXHCIController < VirtualController: autoConnectDevices:boolean
VirtualVmxnet < VirtualEthernetCard
VirtualVmxnet2 < VirtualVmxnet
VirtualVmxnet3 < VirtualVmxnet
VirtualVmxnet3Vrdma < VirtualVmxnet3
VirtualWDT < VirtualDevice: runOnBoot:boolean running:boolean
VmConfigInfo: product:VAppProductInfo[] property:VAppPropertyInfo[] ipAssignment:VAppIPAssignmentInfo eula:string[] ovfSection:VAppOvfSectionInfo[] ovfEnvironmentTransport:string[] installBootRequired:boolean installBootStopDelay:number
VmfsDatastoreInfo < DatastoreInfo: maxPhysicalRDMFileSize:number maxVirtualRDMFileSize:number vmfs:HostVmfsVolume
VmfsUnmapBandwidthSpec: fixedValue:number dynamicMin:number dynamicMax:number
VsanDatastoreInfo < DatastoreInfo: accessGenNo:number
VsanHostRuntimeInfo: membershipList:VsanHostMembershipInfo[] diskIssues:VsanHostRuntimeInfoDiskIssue[] accessGenNo:number
VvolDatastoreInfo < DatastoreInfo: vvolDS:HostVvolVolume
`;

interface VimType {
  base: string | null;
  properties: Map<string, string>;
}

const types = new Map<string, VimType>(VIM_TYPES.trim().split('\n').map(parseLine));

/** The declared kind of a property, or undefined for text and for what is not in the table. */
export function kindOf(type: string, property: string): string | undefined {
  for (let name: string | null = type; name !== null;) {
    const known: VimType | undefined = types.get(name);
    const kind = known?.properties.get(property);
    if (kind !== undefined) return kind;
    name = known?.base ?? null;
  }
  return undefined;
}

function parseLine(line: string): [string, VimType] {
  const [head = '', body = ''] = line.split(': ');
  const [name = '', base = null] = head.split(' < ');
  const properties = new Map<string, string>();
  for (const entry of body.split(' ')) {
    const [property = '', kind = ''] = entry.split(':');
    if (property !== '') properties.set(property, kind);
  }
  return [name, { base, properties }];
}
