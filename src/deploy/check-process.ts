/** A process of its own that loads built functions as a worker would: what they do while they load concerns nobody else. */
import { DeployedFiles } from './files.ts';
import { factsOf, type CheckQuestion, type CheckAnswer } from './check.ts';

process.once('message', (question: CheckQuestion) => {
  void check(question).then((answer) =>
    // Whatever the functions have opened must not keep it.
    process.send?.(answer, undefined, undefined, () => process.exit(0)),
  );
});

async function check({
  directory,
  packageEntry,
  namespace,
  functions,
}: CheckQuestion): Promise<CheckAnswer> {
  const fetch = (): never => {
    throw new Error('all files are there');
  };
  const files = await DeployedFiles.open({ directory, packageEntry, fetch });
  const answer: CheckAnswer = { facts: [], failures: [] };
  for (const built of functions) {
    try {
      answer.facts.push(factsOf(await files.load(built, namespace)));
    } catch (error) {
      answer.failures.push((error as Error).message);
    }
  }
  return answer;
}
