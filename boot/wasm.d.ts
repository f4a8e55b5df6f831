// Files that the bundler turns into bytes, and what the build made of them.
declare module '*.wasm' {
  const bytes: Uint8Array<ArrayBuffer>;
  export default bytes;
}
declare module '*/certificates.json' {
  const file: import('../kernel/wcet/certificate.ts').CertificateFile;
  export default file;
}
declare module '*/digest.json' {
  const digest: { readonly kernel: string };
  export default digest;
}
declare module '*/package.json' {
  const manifest: { readonly version: string };
  export default manifest;
}
