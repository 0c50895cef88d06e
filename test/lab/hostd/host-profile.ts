/** What differs between ESXi versions, as far as the lab imitates it. */
export interface HostProfile {
  version: string;
  build: string;
  apiVersion: string;
  update: number;
  patch: number;
  /** `VMware ESXi 8.0 Update 3` */
  level: string;
  hardwareVersionMax: number;
  execInstalledOnly: boolean;
  /** `command -v` answers. */
  commandBuiltin: boolean;
}

const PROFILES: Record<string, Omit<HostProfile, 'version'>> = {
  '6.5.0': profile('17477841', '6.5', 3, 0, '6.5.0 Update 3', 13),
  '6.7.0': profile('17700523', '6.7.3', 3, 0, '6.7.0 Update 3', 15),
  '7.0.1': profile('17168206', '7.0.1.0', 1, 0, '7.0 Update 1', 18),
  '7.0.3': profile('21424296', '7.0.3.0', 3, 0, '7.0 Update 3', 19),
  '8.0.1': profile('21495797', '8.0.1.0', 1, 0, '8.0 Update 1', 20),
  '8.0.3': profile('24674464', '8.0.3.0', 3, 0, '8.0 Update 3', 21),
  '9.0.0': profile('24755229', '9.0.0.0', 0, 0, '9.0', 22),
};

function profile(
  build: string,
  apiVersion: string,
  update: number,
  patch: number,
  level: string,
  hardwareVersionMax: number,
): Omit<HostProfile, 'version'> {
  const major = Number(apiVersion.slice(0, apiVersion.indexOf('.')));
  return {
    build,
    apiVersion,
    update,
    patch,
    level: `VMware ESXi ${level}`,
    hardwareVersionMax,
    execInstalledOnly: major >= 8,
    commandBuiltin: major >= 8,
  };
}

/** @param version `8.0.3`, or its beginning (`7.0`, `6.7`); the newest that fits is taken */
export function hostProfile(version: string): HostProfile {
  const found = Object.keys(PROFILES)
    .filter((known) => known === version || known.startsWith(`${version}.`))
    .at(-1);
  const values = found === undefined ? undefined : PROFILES[found];
  if (found === undefined || values === undefined) {
    throw new Error(`the lab has no profile of ESXi ${version}; it has ${Object.keys(PROFILES).join(', ')}`);
  }
  return { version: found, ...values };
}
