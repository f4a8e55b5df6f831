export async function buildImage() {}
