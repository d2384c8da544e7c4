/** The configuration is wrong: `path` is the file or variable, the message names the key and what was expected. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly path: string;
  constructor(path: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.path = path;
  }
}
