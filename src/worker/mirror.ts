/**
 * What apt says when an archive's mirror cannot be asked, or has not got what its own lists promise. That says nothing about
 * the package: what came of it (no such source, dependencies that cannot be installed) is no verdict. (sbuild's own "Failed
 * to fetch source files" names no address: it also ends the search for a package that there is not.)
 */
const complaints =
  /^(Err:\d+ |[EW]: Failed to fetch \S+:|[EW]: Some index files failed to download|[EW]: Unable to fetch some archives)/;

export class MirrorWatch {
  /** The first complaint. */
  trouble: string | undefined;

  see(line: string): void {
    if (this.trouble === undefined && complaints.test(line)) this.trouble = line.trim().slice(0, 300);
  }
}

/** What apt-get source says when the archive was asked, and has no such thing. */
const unknownSource = /^E: (Unable to find a source package for|Can not find version|You must put some 'deb-src')/m;

export function isUnknownSource(said: string): boolean {
  return unknownSource.test(said);
}
