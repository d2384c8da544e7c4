/** The network of a machine: qemu's own user mode, which needs no right on the host. The addresses are qemu's defaults. */
export const network = {
  address: '10.0.2.15',
  netmask: '255.255.255.0',
  gateway: '10.0.2.2',
  /** qemu hands what is asked there to the host's own resolver. */
  nameserver: '10.0.2.3',
} as const;
