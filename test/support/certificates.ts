/** Real X.509 certificates, made by openssl when a test begins. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Certificate {
  cert: string;
  key: string;
}

export class Authority {
  readonly folder = mkdtempSync(join(tmpdir(), 'millrace-ca-'));
  readonly ca = join(this.folder, 'ca.pem');
  readonly #key = join(this.folder, 'ca.key');

  constructor() {
    const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
    const rest = ['-nodes', '-subj', '/CN=test authority', '-days', '2'];
    openssl([...request, ...rest, '-keyout', this.#key, '-out', this.ca]);
  }

  /** `names` as in subjectAltName: IP:127.0.0.1, DNS:localhost. `days` below 0: it has expired. */
  issue(name: string, names: string, days = 2): Certificate {
    const path = (end: string): string => join(this.folder, `${name}.${end}`);
    const [key, csr, cert, extensions] = [path('key'), path('csr'), path('pem'), path('ext')];
    writeFileSync(extensions, `subjectAltName=${names}\n`);
    const request = [
      'req',
      '-new',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
    ];
    openssl([...request, '-subj', `/CN=${name}`, '-keyout', key, '-out', csr]);
    const by = ['-CA', this.ca, '-CAkey', this.#key, '-CAcreateserial', '-extfile', extensions];
    openssl(['x509', '-req', '-in', csr, ...by, '-days', String(days), '-out', cert]);
    return { cert, key };
  }
}

function openssl(words: readonly string[]): void {
  execFileSync('openssl', words, { stdio: 'pipe' });
}
